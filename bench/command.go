// Package bench measures a broker that speaks the RocketMQ protocol, rmq or any other.
//
// [ProduceCommand] and [ConsumeCommand] put one workload on one cluster, found through its name server, and report
// rates, latency percentiles and errors by code. [CompareCommand] starts several brokers on this machine in turn and
// puts the same workloads on each.
//
// What is measured, and how:
//
//   - Time is the load generator's own monotonic clock. A latency is the time from the moment a request was meant to
//     be sent to the moment its answer was decoded. With a fixed rate that moment is given by the schedule, so a
//     stalled broker is charged for every message that had to wait (no coordinated omission); without one it is the
//     moment the request was handed to the connection.
//   - Requests are built as the stock Java client builds them: JSON headers, SEND_MESSAGE_V2, UNIQ_KEY and WAIT
//     properties.
//   - Warm-up is the same load as the measurement and is left out of every figure but the totals.
//
// Nothing here knows rmq's internals, so that a figure for another broker is the same figure.
package bench

import (
	"fmt"
	"io"
)

// Exit codes of the commands.
const (
	exitOK      = 0 // the run was completed, whatever it measured
	exitFailure = 1 // the run could not be carried out, or not one request succeeded
	exitUsage   = 2 // flags that cannot be understood
)

const usage = `Usage: rmq bench COMMAND [flags]

Commands:
  produce   send messages to a topic and measure
  consume   pull messages from a topic and measure
  compare   start brokers on this machine in turn and put the same load on each
  failover  take the leader of a replicated group away again and again and measure the outage
  modes     put the same load on one node and on replicated groups in every mode

Run "rmq bench COMMAND --help" for the flags of a command.
`

// Command runs the bench subcommand that args[0] names with the rest of args as its flags, writes results to stdout and
// progress and complaints to stderr, and returns the process's exit code. An interrupt ends a run early; what was
// measured until then is reported.
func Command(args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprint(stderr, usage)
		return exitUsage
	}
	switch args[0] {
	case "produce":
		return ProduceCommand(args[1:], stdout, stderr)
	case "consume":
		return ConsumeCommand(args[1:], stdout, stderr)
	case "compare":
		return CompareCommand(args[1:], stdout, stderr)
	case "failover":
		return FailoverCommand(args[1:], stdout, stderr)
	case "modes":
		return ModesCommand(args[1:], stdout, stderr)
	case "help", "-h", "--help":
		fmt.Fprint(stdout, usage)
		return exitOK
	}
	fmt.Fprintf(stderr, "rmq bench: unknown command %q\n\n%s", args[0], usage)
	return exitUsage
}
