package main

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"rmq/raftlog"
)

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

// exitErrorf is fmt.Errorf with an exit code. Some of the texts are those of the classic programs, word for word.
func exitErrorf(code int, format string, args ...any) error {
	return &exitError{code, fmt.Errorf(format, args...)}
}

// ExitCode returns the process exit code for err: 0 for nil, the code that an error of this package or a fault of the log
// carries, else exitFailed.
func ExitCode(err error) int {
	var e *exitError
	var f *raftlog.Fault
	switch {
	case err == nil:
		return 0
	case errors.As(err, &e):
		return e.code
	case errors.As(err, &f):
		return f.Code
	}
	return exitFailed
}

// roleFromArgv0 returns the role a program link stands for: "namesrv", "broker" or "admin" for mqnamesrv, mqbroker and
// mqadmin (with or without directory and .exe), else ok is false.
func roleFromArgv0(argv0 string) (role string, ok bool) {
	name := path.Base(strings.ReplaceAll(argv0, `\`, "/"))
	switch strings.TrimSuffix(name, ".exe") {
	case "mqnamesrv":
		return roleNamesrv, true
	case "mqbroker":
		return roleBroker, true
	case "mqadmin":
		return "admin", true
	}
	return "", false
}

// serverFlags is the command line of rmq namesrv and rmq broker.
type serverFlags struct {
	ConfigFiles    []string // -c, in order; a broker runs one group per file
	NamesrvAddr    string   // -n, checked; "" when not given. A name server accepts and ignores it
	PrintConfig    bool     // -p: print every effective key, then exit 0
	PrintImportant bool     // -m: only the important ones (broker)
	Check          bool     // --check: load and validate, then exit
	Strict         bool     // --strict: unknown keys are errors
	EnableProxy    bool     // --enable-proxy of the 5.x wrapper: accepted, no proxy yet
	Help           bool     // -h: print the usage text, exit 0
}

func brokerSpec() classicSpec {
	return classicSpec{Program: "mqbroker", Options: []classicOption{
		{Short: "c", Long: "configFile", Value: "arg", Repeat: true, Help: "Broker config properties file; several -c run several groups in this process"},
		{Long: "check", Exact: true, Help: "Load and validate the configuration, then exit"},
		{Long: "enable-proxy", Exact: true, Help: "Accepted for the 5.x start script; there is no proxy yet"},
		{Short: "h", Long: "help", Help: "Print help"},
		{Short: "m", Long: "printImportantConfig", Help: "Print important config item"},
		{Short: "n", Long: "namesrvAddr", Value: "arg", Help: "Name server address list, eg: '192.168.0.1:9876;192.168.0.2:9876'"},
		{Short: "p", Long: "printConfigItem", Help: "Print all config item"},
		{Long: "print-effective", Exact: true, Help: "Same as -p"},
		{Long: "strict", Exact: true, Help: "Unknown keys are errors"},
	}}
}

func namesrvSpec() classicSpec {
	return classicSpec{Program: "mqnamesrv", Options: []classicOption{
		{Short: "c", Long: "configFile", Value: "arg", Help: "Name server config properties file"},
		{Long: "check", Exact: true, Help: "Load and validate the configuration, then exit"},
		{Short: "h", Long: "help", Help: "Print help"},
		{Short: "n", Long: "namesrvAddr", Value: "arg", Help: "Name server address list, eg: '192.168.0.1:9876;192.168.0.2:9876' (no effect here)"},
		{Short: "p", Long: "printConfigItem", Help: "Print all config items"},
		{Long: "print-effective", Exact: true, Help: "Same as -p"},
		{Long: "strict", Exact: true, Help: "Unknown keys are errors"},
	}}
}

// parseBrokerFlags reads the classic command line of mqbroker. -h wins over every error. An error carries its exit code;
// after one of code 1 the usage text belongs on stderr.
func parseBrokerFlags(args []string) (serverFlags, error) {
	return parseServerFlags(args, brokerSpec())
}

// parseNamesrvFlags is parseBrokerFlags for mqnamesrv.
func parseNamesrvFlags(args []string) (serverFlags, error) {
	return parseServerFlags(args, namesrvSpec())
}

func brokerUsage() string  { return brokerSpec().Usage() }
func namesrvUsage() string { return namesrvSpec().Usage() }

func parseServerFlags(args []string, spec classicSpec) (serverFlags, error) {
	got, err := parseClassic(args, spec)
	if got.Has("help") {
		return serverFlags{Help: true}, nil
	}
	if err != nil {
		return serverFlags{}, err
	}
	f := serverFlags{
		ConfigFiles:    got["configFile"],
		NamesrvAddr:    got.Last("namesrvAddr"),
		PrintConfig:    got.Has("printConfigItem") || got.Has("print-effective"),
		PrintImportant: got.Has("printImportantConfig"),
		Check:          got.Has("check"),
		Strict:         got.Has("strict"),
		EnableProxy:    got.Has("enable-proxy"),
	}
	for _, file := range f.ConfigFiles {
		if file == "" {
			return f, exitErrorf(exitUsage, "-c names no file")
		}
	}
	if _, err := parseNamesrvList(f.NamesrvAddr); err != nil && spec.Program == "mqbroker" {
		return f, err
	}
	if got.Has("namesrvAddr") && strings.Trim(f.NamesrvAddr, "; ") == "" && spec.Program == "mqbroker" {
		return f, exitErrorf(exitBadAddress, namesrvListIllegal, f.NamesrvAddr)
	}
	return f, nil
}
