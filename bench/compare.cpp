// bench/compare.cpp - from the outputs of benches and their goals to one table.
//
//   compare [--baseline FOLDER] [--plot FILE.svg] [--table FILE.md] GOALS... -- OUTPUTS...
//
// OUTPUTS are what Google Benchmark wrote with --benchmark_out_format=csv, run with repetitions and
// --benchmark_enable_random_interleaving, so that subject and peer take turns. The n-th repetition of
// one is paired with the n-th of the other, and the median of the pairs' ratios counts. Times are
// CPU times.
//
// GOALS are text, one file a bench (bench/<name>.goals beside bench/<name>_bench.cpp); a line a row
// of the table, `#` begins a comment, columns are separated by `|`, blanks around them do not count:
//
//   what | ours | peer | floor | reach | goal
//
//   what    words for the reader, in the form "work, circumstances".
//   ours    the benchmark that is measured: its name as Google Benchmark prints it, without what it
//           adds at the end (/iterations:, /repeats:, /min_time:, /manual_time, /real_time, /threads:).
//           `name@counter` is a counter of it in place of the CPU time per iteration. All three
//           must be of one unit.
//   peer    the benchmark that is to be beaten; `-` for none. Its ratio is peer / ours: how many
//           times faster (or smaller) ours is.
//   floor   what cannot be undercut, or a limit; `-` for none. Its ratio is ours / floor: how far
//           from it ours is.
//   reach   the conditions that have to hold today, separated by `;`, or `-` for none:
//             peer 1.7x     peer / ours is at least 1.7
//             floor 1.3x    ours / floor is at most 1.3 (`floor 0.5x`: twice as fast as the floor)
//             at most 96    ours is at most 96, in ns, or in the counter's unit
//   goal    the same, for what is wanted in the end.
//
// A row where `ours` did not run is left out if a `?` stands before `what` (there are builds that do
// not have it: an instruction set, Linux's source), and otherwise it is told and not reached. Where a
// peer or a floor did not run, conditions on it are not judged, and that is said.
//
//   # bench/area_map.goals
//   look-up, hit, 64 K areas   | hit/iopt/65536 | hit/absl/65536 | hit/s_tree/65536 | peer 3.7x | floor 1.5x
//
// With --baseline, the outputs of an earlier run (the same files in FOLDER) are compared as well:
// medians of `ours` alone. Below 5 % is noise; above is told; a regression makes the exit code 3. The
// exit code is 2 for input that cannot be read, else 0: goals that are not reached are told, no error.
