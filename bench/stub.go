package bench

import (
	"fmt"
	"io"
)

// ProduceCommand is "rmq bench produce".
func ProduceCommand(args []string, stdout, stderr io.Writer) int {
	fmt.Fprintln(stderr, "rmq bench produce: not there yet")
	return exitFailure
}

// ConsumeCommand is "rmq bench consume".
func ConsumeCommand(args []string, stdout, stderr io.Writer) int {
	fmt.Fprintln(stderr, "rmq bench consume: not there yet")
	return exitFailure
}

// CompareCommand is "rmq bench compare".
func CompareCommand(args []string, stdout, stderr io.Writer) int {
	fmt.Fprintln(stderr, "rmq bench compare: not there yet")
	return exitFailure
}
