package main

import "errors"

// exitError is an error that knows the exit code the classic program gives for it.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// Exit codes of the classic programs.
const (
	exitUsage      = 1   // bad command line
	exitBadModes   = 252 // enableControllerMode together with enableDLegerCommitLog
	exitBadAddress = 253 // malformed name-server list, or a slave whose brokerId is not > 0
	exitFailed     = 255 // anything else: unreadable file, bad value, port taken
)

// ExitCode returns the process exit code for err: 0 for nil, the code an error of this package carries, else exitFailed.
func ExitCode(err error) int {
	var e *exitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &e):
		return e.code
	}
	return exitFailed
}

// roleFromArgv0 returns the role a program link stands for: "namesrv", "broker" or "admin" for mqnamesrv, mqbroker and
// mqadmin (with or without directory and .exe), else ok is false.
func roleFromArgv0(argv0 string) (role string, ok bool) { return "", false }

// serverFlags is the command line of rmq namesrv and rmq broker.
type serverFlags struct {
	ConfigFiles    []string // -c, in order; a broker runs one group per file
	NamesrvAddr    string   // -n, "" when not given; a name server accepts and ignores it
	PrintConfig    bool     // -p: print every effective key, then exit 0
	PrintImportant bool     // -m: only the important ones (broker)
	Check          bool     // --check: load and validate, then exit
	Strict         bool     // --strict: unknown keys are errors
	EnableProxy    bool     // --enable-proxy of the 5.x wrapper: accepted, no proxy yet
	Help           bool     // -h: print the usage text, exit 0
}

// parseBrokerFlags reads the classic command line of mqbroker. -h wins over every error; any other error carries exit
// code 1 and is to be followed by brokerUsage on stderr.
func parseBrokerFlags(args []string) (serverFlags, error) {
	return serverFlags{}, errors.New("not parsed yet")
}

// parseNamesrvFlags is parseBrokerFlags for mqnamesrv.
func parseNamesrvFlags(args []string) (serverFlags, error) {
	return serverFlags{}, errors.New("not parsed yet")
}

func brokerUsage() string  { return "" }
func namesrvUsage() string { return "" }

// parseNamesrvList splits "host:port;host:port" and checks every entry; the error is the classic text, exit code 253.
func parseNamesrvList(list string) ([]string, error) { return nil, errors.New("not parsed yet") }
