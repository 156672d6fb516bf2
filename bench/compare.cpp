// bench/compare.cpp - from the outputs of benches and their goals to one table.
//
//   compare [--baseline FOLDER] [--plot FILE.svg] [--table FILE.md] GOALS... -- OUTPUTS...
//
// OUTPUTS are what Google Benchmark wrote with --benchmark_out (as JSON), run with repetitions and
// --benchmark_enable_random_interleaving, so that subject and peer take turns. The n-th repetition of
// one is paired with the n-th of the other, and the median of the pairs' ratios counts. Outputs of one
// bench, from several processes, are so many more repetitions. Times are CPU times.
//
// GOALS are text, one file a bench (bench/<name>.goals beside bench/<name>_bench.cpp); a line a row
// of the table, `#` begins a comment, columns are separated by `|`, blanks around them do not count:
//
//   what | ours | peer | floor | reach | goal
//
//   what    words for the reader, in the form "work, circumstances".
//   ours    the benchmark that is measured: its name as Google Benchmark prints it, without what it
//           adds at the end (/iterations:, /repeats:, /min_time:, /manual_time, /real_time, /threads:).
//           `name@counter` is a counter of it in place of the CPU time per iteration; counters of
//           times are in ns. All three must be of one unit.
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
// With --baseline, the outputs of an earlier run (files of the same names in FOLDER) are compared as
// well: for each row the median of `ours`, and its ratios to peer and floor. A slow day of the machine
// shows in the one alone, a lucky peer in another: what counts is the least change that all agree on.
// Below 5 % is noise; above is told; a regression makes the exit code 3. It is 2 for input that cannot
// be read, else 0: goals that are not reached are told, no error.

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace {

using values = std::vector<double>;             // by repetition
using results = std::map<std::string, values>;  // by benchmark, and by benchmark@counter

struct bad_input : std::runtime_error {
  using std::runtime_error::runtime_error;
};

std::string trimmed(std::string_view s) {
  const auto first = s.find_first_not_of(" \t\r");
  if (first == s.npos) return {};
  return std::string(s.substr(first, s.find_last_not_of(" \t\r") - first + 1));
}

std::vector<std::string> columns(const std::string& line) {
  std::vector<std::string> out;
  std::stringstream in(line);
  for (std::string cell; std::getline(in, cell, '|');) out.push_back(trimmed(cell));
  return out;
}

double number(std::string_view s, const std::string& where) {
  double value = 0;
  const auto [end, error] = std::from_chars(s.data(), s.data() + s.size(), value);
  if (error != std::errc{} || end != s.data() + s.size())
    throw bad_input(where + ": not a number: " + std::string(s));
  return value;
}

// --- What Google Benchmark wrote: a member a line, an object a benchmark ---

/// What it adds at the end of a name does not count.
std::string plain_name(std::string name) {
  for (const std::string_view tail : {"/iterations:", "/repeats:", "/min_time:", "/manual_time",
                                      "/real_time", "/process_time", "/threads:"}) {
    if (const auto at = name.find(tail); at != name.npos) {
      const auto end = name.find('/', at + 1);
      name.erase(at, end == name.npos ? end : end - at);
    }
  }
  return name;
}

void read_results(const std::filesystem::path& file, results& to) {
  std::ifstream in(file);
  if (!in) throw bad_input("cannot read " + file.string());
  std::map<std::string, std::string> members;
  bool inside = false;  // of "benchmarks"
  const auto take = [&] {
    if (members["run_type"] != "iteration" || members.contains("error_occurred")) return;
    const std::string name = plain_name(members["name"]);
    const std::string& unit = members["time_unit"];
    const double scale = unit == "us" ? 1e3 : unit == "ms" ? 1e6 : unit == "s" ? 1e9 : 1;
    to[name].push_back(number(members["cpu_time"], file.string()) * scale);
    for (const auto& [key, value] : members) {
      static const std::vector<std::string_view> not_counters{
          "name",        "run_name",         "run_type",
          "repetitions", "repetition_index", "threads",
          "real_time",   "cpu_time",         "time_unit",
          "iterations",  "family_index",     "per_family_instance_index"};
      if (std::ranges::find(not_counters, key) == not_counters.end())
        to[name + "@" + key].push_back(number(value, file.string()));
    }
  };
  for (std::string line; std::getline(in, line);) {
    const std::string text = trimmed(line);
    if (text.starts_with("\"benchmarks\"")) inside = true;
    if (!inside) continue;
    if (text.starts_with("{")) members.clear();
    if (text.starts_with("}") && !members.empty()) take(), members.clear();
    const auto colon = text.find("\": ");
    if (!text.starts_with("\"") || colon == text.npos) continue;
    std::string value = text.substr(colon + 3);
    if (value.ends_with(",")) value.pop_back();
    if (value.size() >= 2 && value.front() == '"') value = value.substr(1, value.size() - 2);
    members[text.substr(1, colon - 1)] = value;
  }
  if (!inside) throw bad_input("no benchmarks in " + file.string());
}

double median(values v) {
  std::ranges::sort(v);
  const std::size_t half = v.size() / 2;
  return v.size() % 2 != 0 ? v[half] : (v[half - 1] + v[half]) / 2;
}

/// The median of top[n] / bottom[n].
double median_ratio(const values& top, const values& bottom) {
  values ratios;
  for (std::size_t n = 0; n < std::min(top.size(), bottom.size()); ++n)
    ratios.push_back(bottom[n] == 0 ? HUGE_VAL : top[n] / bottom[n]);
  return median(ratios);
}

// --- Goals ---

struct row {
  std::string what, ours, peer, floor, reach, goal, where;
  bool optional = false;
};

std::vector<row> read_goals(const std::filesystem::path& file) {
  std::ifstream in(file);
  if (!in) throw bad_input("cannot read " + file.string());
  std::vector<row> rows;
  int number_of_line = 0;
  for (std::string line; std::getline(in, line);) {
    ++number_of_line;
    const std::vector<std::string> cells = columns(line.substr(0, line.find('#')));
    if (cells.empty() || (cells.size() == 1 && cells[0].empty())) continue;
    const std::string where = file.filename().string() + ":" + std::to_string(number_of_line);
    if (cells.size() != 6) throw bad_input(where + ": there are not six columns");
    row r{cells[0], cells[1], cells[2], cells[3], cells[4], cells[5], where};
    if (r.what.starts_with("?")) r.optional = true, r.what = trimmed(r.what.substr(1));
    rows.push_back(r);
  }
  return rows;
}

enum class verdict { none, yes, no, unjudged };

struct judged {
  const row* from = nullptr;
  std::optional<double> ours, peer, floor;    // medians
  std::optional<double> faster, above_floor;  // peer / ours, ours / floor
  verdict reached = verdict::none, goal = verdict::none;
};

verdict judge(const std::string& conditions, const judged& j) {
  if (conditions == "-") return verdict::none;
  verdict all = verdict::yes;
  std::stringstream in(conditions);
  for (std::string each; std::getline(in, each, ';');) {
    each = trimmed(each);
    const auto limit = [&](std::string_view word) -> std::optional<double> {
      if (!each.starts_with(word)) return std::nullopt;
      std::string rest = trimmed(std::string_view(each).substr(word.size()));
      if (rest.ends_with("x")) rest.pop_back();
      return number(rest, j.from->where);
    };
    std::optional<bool> holds;
    if (const auto least = limit("peer ")) {
      if (j.faster) holds = *j.faster >= *least;
    } else if (const auto most = limit("floor ")) {
      if (j.above_floor) holds = *j.above_floor <= *most;
    } else if (const auto bound = limit("at most ")) {
      if (j.ours) holds = *j.ours <= *bound;
    } else {
      throw bad_input(j.from->where + ": not a condition: " + each);
    }
    if (!j.ours || (holds && !*holds)) return verdict::no;
    if (!holds) all = verdict::unjudged;
  }
  return all;
}

judged measure(const row& r, const results& got) {
  judged j;
  j.from = &r;
  const auto of = [&](const std::string& name) -> const values* {
    const auto at = got.find(name);
    return name == "-" || at == got.end() || at->second.empty() ? nullptr : &at->second;
  };
  const values *ours = of(r.ours), *peer = of(r.peer), *floor = of(r.floor);
  if (ours != nullptr) j.ours = median(*ours);
  if (peer != nullptr) j.peer = median(*peer);
  if (floor != nullptr) j.floor = median(*floor);
  if (ours != nullptr && peer != nullptr) j.faster = median_ratio(*peer, *ours);
  if (ours != nullptr && floor != nullptr) j.above_floor = median_ratio(*ours, *floor);
  j.reached = judge(r.reach, j);
  j.goal = judge(r.goal, j);
  return j;
}

// --- The table ---

std::string shown(std::optional<double> value, const char* after = "") {
  if (!value) return "-";
  char text[32];
  const double size = std::abs(*value);
  std::snprintf(text, sizeof text,
                size >= 1000 ? "%.0f%s"
                : size >= 10 ? "%.1f%s"
                             : "%.2f%s",
                *value, after);
  return text;
}
std::string shown(const judged& j, std::optional<double> value) {
  if (!value) return "-";
  const bool is_time = j.from->ours.find("bytes") == std::string::npos;
  if (!is_time) return shown(value, " B");
  if (*value >= 1e6) return shown(*value / 1e6, " ms");
  if (*value >= 1e4) return shown(*value / 1e3, " us");
  return shown(value, " ns");
}
std::string shown(verdict v) {
  return v == verdict::yes ? "yes" : v == verdict::no ? "NO" : v == verdict::unjudged ? "?" : "-";
}

using table = std::vector<std::vector<std::string>>;

table make_table(const std::vector<judged>& all) {
  table t{{"what", "peer", "floor", "ours", "peer/ours", "ours/floor", "reach", "reached", "goal",
           "reached"}};
  for (const judged& j : all)
    t.push_back({j.from->what, shown(j, j.peer), shown(j, j.floor),
                 j.ours ? shown(j, j.ours) : "did not run", shown(j.faster, "x"),
                 shown(j.above_floor, "x"), j.from->reach, shown(j.reached), j.from->goal,
                 shown(j.goal)});
  return t;
}

void print(const table& t, std::ostream& out) {
  std::vector<std::size_t> widths(t[0].size());
  for (const auto& line : t)
    for (std::size_t n = 0; n < line.size(); ++n) widths[n] = std::max(widths[n], line[n].size());
  for (std::size_t l = 0; l < t.size(); ++l) {
    for (std::size_t n = 0; n < t[l].size(); ++n)
      out << "| " << t[l][n] << std::string(widths[n] - t[l][n].size(), ' ') << ' ';
    out << "|\n";
    if (l != 0) continue;
    for (const std::size_t width : widths) out << '|' << std::string(width + 2, '-');
    out << "|\n";
  }
}

// --- The plot: a bar a row, how many times faster than its peer, on a logarithmic scale ---

std::string escaped(const std::string& s) {
  std::string out;
  for (const char c : s)
    out += c == '&' ? "&amp;" : c == '<' ? "&lt;" : c == '>' ? "&gt;" : std::string(1, c);
  return out;
}

void plot(const std::vector<judged>& all, const std::filesystem::path& file) {
  std::vector<const judged*> bars;
  for (const judged& j : all)
    if (j.faster && *j.faster > 0 && std::isfinite(*j.faster)) bars.push_back(&j);
  constexpr double left = 520, width = 420, line = 22, top = 50;
  double most = 10, least = 0.5;
  for (const judged* j : bars)
    most = std::max(most, *j->faster), least = std::min(least, *j->faster);
  const auto x = [&](double ratio) {
    return left + width * std::log(ratio / least) / std::log(most / least);
  };
  const double bottom = top + line * static_cast<double>(bars.size());
  std::ofstream out(file);
  if (!out) throw bad_input("cannot write " + file.string());
  out << "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"" << left + width + 90 << "\" height=\""
      << bottom + 20
      << "\" font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" "
         "fill=\"white\"/>\n"
      << "<text x=\"10\" y=\"20\" font-size=\"14\">How many times faster than the peer "
         "(logarithmic); "
         "green: reach holds, red: not, grey: none stated</text>\n";
  for (double tick = std::pow(10, std::ceil(std::log10(least))); tick <= most; tick *= 10)
    out << "<line x1=\"" << x(tick) << "\" y1=\"" << top - 8 << "\" x2=\"" << x(tick) << "\" y2=\""
        << bottom << "\" stroke=\"" << (tick == 1 ? "black" : "#ccc") << "\"/><text x=\"" << x(tick)
        << "\" y=\"" << top - 12 << "\" text-anchor=\"middle\">" << tick << "x</text>\n";
  for (std::size_t n = 0; n < bars.size(); ++n) {
    const judged& j = *bars[n];
    const double y = top + line * static_cast<double>(n);
    const double from = std::min(x(1), x(*j.faster)), to = std::max(x(1), x(*j.faster));
    const char* colour = j.reached == verdict::yes  ? "#3a3"
                         : j.reached == verdict::no ? "#c33"
                                                    : "#999";
    out << "<text x=\"" << left - 10 << "\" y=\"" << y + 14 << "\" text-anchor=\"end\">"
        << escaped(j.from->what) << "</text><rect x=\"" << from << "\" y=\"" << y + 3
        << "\" width=\"" << std::max(to - from, 1.0) << "\" height=\"" << line - 6 << "\" fill=\""
        << colour << "\"/><text x=\"" << to + 5 << "\" y=\"" << y + 14 << "\">"
        << shown(j.faster, "x") << "</text>\n";
  }
  out << "</svg>\n";
}

// --- Against an earlier run ---

/// How much more time ours takes than before, in percent: the least that all measures agree on.
double change(const judged& now, const judged& before) {
  std::optional<double> least;
  bool agreed = true;
  const auto look = [&](std::optional<double> a, std::optional<double> b) {
    if (!a || !b || *a <= 0) return;
    const double percent = (*b / *a - 1) * 100;
    if (least) agreed = agreed && (*least > 0) == (percent > 0);
    if (!least || std::abs(percent) < std::abs(*least)) least = percent;
  };
  look(before.ours, now.ours);
  look(now.faster, before.faster);
  look(before.above_floor, now.above_floor);
  return least && agreed ? *least : 0;
}

bool tell_changes(const std::vector<judged>& now, const std::vector<judged>& before,
                  std::ostream& out) {
  bool worse = false;
  for (std::size_t n = 0; n < now.size(); ++n) {
    const double percent = change(now[n], before[n]);
    if (std::abs(percent) < 5) continue;
    out << (percent > 0 ? "slower: " : "faster: ") << now[n].from->what << ": "
        << shown(std::abs(percent), " %") << "\n";
    worse = worse || percent > 0;
  }
  return worse;
}

int run(const std::vector<std::string>& arguments) {
  std::vector<row> rows;
  results got, before;
  std::filesystem::path plot_file, table_file, baseline;
  bool outputs = false;
  std::vector<std::filesystem::path> files;
  for (std::size_t n = 0; n < arguments.size(); ++n) {
    const std::string& a = arguments[n];
    const auto value = [&]() -> const std::string& {
      if (n + 1 == arguments.size()) throw bad_input(a + " wants a name");
      return arguments[++n];
    };
    if (a == "--")
      outputs = true;
    else if (a == "--plot")
      plot_file = value();
    else if (a == "--table")
      table_file = value();
    else if (a == "--baseline")
      baseline = value();
    else if (outputs)
      files.emplace_back(a);
    else
      for (row& r : read_goals(a)) rows.push_back(std::move(r));
  }
  if (rows.empty() || files.empty())
    throw bad_input(
        "compare [--baseline FOLDER] [--plot FILE] [--table FILE] GOALS... -- OUTPUTS...");
  for (const auto& file : files) {
    read_results(file, got);
    if (!baseline.empty() && std::filesystem::exists(baseline / file.filename()))
      read_results(baseline / file.filename(), before);
  }
  if (!baseline.empty() && before.empty())
    throw bad_input("no earlier outputs in " + baseline.string());
  std::erase_if(rows, [&](const row& r) { return r.optional && !got.contains(r.ours); });

  std::vector<judged> all, earlier;
  for (const row& r : rows) {
    all.push_back(measure(r, got));
    earlier.push_back(measure(r, before));
  }
  const table t = make_table(all);
  print(t, std::cout);
  if (!table_file.empty()) {
    std::ofstream out(table_file);
    if (!out) throw bad_input("cannot write " + table_file.string());
    print(t, out);
  }
  if (!plot_file.empty()) plot(all, plot_file);
  const auto count = [&](verdict judged::* which, verdict v) {
    return std::ranges::count(all, v, which);
  };
  for (const auto& [name, which] :
       {std::pair{"reach", &judged::reached}, {"goal", &judged::goal}}) {
    std::cout << name << ": " << count(which, verdict::yes) << " reached, "
              << count(which, verdict::no) << " not";
    if (const auto open = count(which, verdict::unjudged); open != 0)
      std::cout << ", " << open << " not judged (?): their peer or floor did not run";
    std::cout << "\n";
  }
  return !baseline.empty() && tell_changes(all, earlier, std::cout) ? 3 : 0;
}

}  // namespace

int main(int count, char** arguments) {
  try {
    return run({arguments + 1, arguments + count});
  } catch (const std::exception& e) {
    std::cerr << "error: " << e.what() << "\n";
    return 2;
  }
}
