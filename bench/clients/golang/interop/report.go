package main

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"rmq/bench/clients/golang/harness"
)

// report is what became of one suite.
type report struct {
	suite          string
	passed, failed int
	problems       []string
	took           time.Duration
	brokerPeakMiB  int
}

// Java suites print "PASS name ms" and "FAIL name reason"; Go tests "--- PASS: Name (1.00s)", the reason before it.
var (
	passLine = regexp.MustCompile(`(?m)^(?:PASS \S+ \d+|--- PASS: .*)$`)
	closing  = regexp.MustCompile(`(?m)^(\d+) passed, (\d+) failed$`) // of the Java suites
	failLine = regexp.MustCompile(`(?m)^(?:(?: {4}\S+_test\.go:\d+: .*\n(?: {8}.*\n)*)*--- FAIL: .*|FAIL \S+ .*(?:\n {4}.*)*)$`)
)

// cases counts a suite's output. A suite that ran nothing has failed, and so has one that ends with an error although no case failed.
func (r *report) cases(output string, err error) {
	r.passed = len(passLine.FindAllString(output, -1))
	failures := failLine.FindAllString(output, -1)
	r.failed = len(failures)
	r.problems = append(r.problems, failures...)
	counted := fmt.Sprintf("%d passed, %d failed", r.passed, r.failed)
	switch said := closing.FindString(output); {
	case err != nil && r.failed == 0:
		r.problem(fmt.Errorf("the suite ended with: %w; see its log\n%s", err, harness.Tail([]byte(output))))
	case said != "" && said != counted:
		r.problem(fmt.Errorf("the suite says %s, its lines say %s", said, counted))
	case r.passed == 0 && r.failed == 0:
		r.problem(fmt.Errorf("the suite ran no case"))
	}
}

func (r *report) problem(err error) {
	if err != nil {
		r.problems = append(r.problems, err.Error())
	}
}

func (r *report) ok() bool { return len(r.problems) == 0 }

func (r *report) print() {
	for _, p := range r.problems {
		fmt.Println("  " + strings.ReplaceAll(strings.TrimRight(p, "\n"), "\n", "\n  "))
	}
}

// summarize prints the table and returns the names of the suites that failed.
func summarize(reports []report) (failed []string) {
	fmt.Printf("\n%-28s %6s %6s %8s %17s  %s\n", "suite", "passed", "failed", "seconds", "broker peak MiB", "result")
	for _, r := range reports {
		result := "ok"
		if !r.ok() {
			result = "FAILED"
			failed = append(failed, r.suite)
		}
		fmt.Printf("%-28s %6d %6d %8.1f %17d  %s\n", r.suite, r.passed, r.failed, r.took.Seconds(), r.brokerPeakMiB, result)
	}
	return failed
}
