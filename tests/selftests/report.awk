# tests/selftests/report.awk - what a self-test's log (TAP, with what was printed between) says, by name.
#
#   awk -v program=NAME -v answer=EXIT_STATUS -f tests/selftests/report.awk KNOWN LOG
#
# Fails when a test is not ok that KNOWN does not name, is skipped, or did not run; when one that KNOWN
# names is ok; and when the program does not end as its tests did.
function tell(verdict, name, detail) {
  printf "  %-8s %s%s\n", verdict, name, detail == "" ? "" : ": " detail
}

# The last five lines of what the test had to say.
function tell_messages(i) {
  for (i = messages > 5 ? messages - 4 : 1; i <= messages; i++) print "             " message[i]
}

FNR == 1 { file++ }
file == 1 {
  if ($1 ~ /^[^#]/) {
    name = $1
    sub(/^[^ \t]+[ \t]+/, "")
    reason[name] = $0
  }
  next
}

/^1\.\.[0-9]+/ { plan = substr($1, 4) + 0 }
/^#  RUN / {
  running = $3
  messages = 0
  next
}
/^ok [0-9]+ / || /^not ok [0-9]+ / {
  good = $1 == "ok"
  name = good ? $3 : $4
  ran++
  if (/ # SKIP /) {
    sub(/.* # SKIP +/, "")
    tell("skipped", name, $0)
  } else if (good) {
    ok++
    if (name in reason) {
      stale++
      tell("OK", name, "passes now: take it off the list of known ones")
    }
  } else if (name in reason) {
    known++
    tell("known", name, reason[name])
  } else {
    failed++
    tell("NOT OK", name)
    tell_messages()
  }
  if (!good) bad++
  running = ""
  messages = 0
  next
}
!/^# +(OK|FAIL|SKIP) / { message[++messages] = $0 }

END {
  wrong = 0
  # The harness answers 0 or 1.
  if (ran < plan || plan == 0 || answer != (bad > 0)) {
    wrong = 1
    tell("ENDED", program, "after " ran + 0 " of " plan + 0 " tests" (running == "" ? "" : ", in " running) \
         (answer == 124 ? ", out of time" : ", with exit status " answer))
    tell_messages()
  }
  others = plan - ok - known
  printf "%s: %d of %d ok, %d known not to be, %d others\n", program, ok, plan, known, others
  exit wrong || others != 0 || stale > 0
}
