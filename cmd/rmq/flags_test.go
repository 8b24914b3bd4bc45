package main

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func TestParseClassicAcceptsEveryForm(t *testing.T) {
	spec := classicSpec{Program: "x", Options: []classicOption{
		{Short: "b", Long: "brokerAddr", Value: "arg"},
		{Short: "bn", Long: "brokerName", Value: "arg"},
		{Short: "c", Long: "clusterName", Value: "arg", Repeat: true},
		{Short: "t", Long: "topic", Value: "arg"},
		{Short: "h", Long: "help"},
		{Long: "check", Exact: true},
	}}
	tests := []struct {
		args string // blank separated
		want classicArgs
	}{
		{"", classicArgs{}},
		{"-t x", classicArgs{"topic": {"x"}}},
		{"-tx", classicArgs{"topic": {"x"}}},
		{"-t=x", classicArgs{"topic": {"x"}}},
		{"--topic x", classicArgs{"topic": {"x"}}},
		{"--topic=x=y", classicArgs{"topic": {"x=y"}}},
		{"-topic x", classicArgs{"topic": {"x"}}},
		{"-topic=x", classicArgs{"topic": {"x"}}},
		{"--top x", classicArgs{"topic": {"x"}}},
		{"-bn broker-a", classicArgs{"brokerName": {"broker-a"}}}, // never -b n
		{"-bn=broker-a", classicArgs{"brokerName": {"broker-a"}}},
		{"-bx", classicArgs{"brokerAddr": {"x"}}},
		{"-b -1", classicArgs{"brokerAddr": {"-1"}}},
		{"-b -1.5", classicArgs{"brokerAddr": {"-1.5"}}},
		{"-b -x", classicArgs{"brokerAddr": {"-x"}}}, // a value that matches no option
		{"-b -", classicArgs{"brokerAddr": {"-"}}},
		{`-t "x"`, classicArgs{"topic": {"x"}}},
		{`-t=""x""`, classicArgs{"topic": {`"x"`}}},
		{"-t x -t y", classicArgs{"topic": {"y"}}},
		{"-c x -c y", classicArgs{"clusterName": {"x", "y"}}},
		{"word -t x stray words", classicArgs{"topic": {"x"}}},
		{"-t x -- -b y", classicArgs{"topic": {"x"}}},
		{"-h -t x", classicArgs{"help": {""}, "topic": {"x"}}},
		{"--c x", classicArgs{"clusterName": {"x"}}}, // check cannot be cut short
		{"--check", classicArgs{"check": {""}}},
		{"-check", classicArgs{"check": {""}}},
	}
	for _, test := range tests {
		got, err := parseClassic(strings.Fields(test.args), spec)
		if err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: got %v, %v, want %v", test.args, got, err, test.want)
		}
	}
	mistakes := []struct{ args, want string }{
		{"-t", "Missing argument for option: t"},
		{"-t -b x", "Missing argument for option: t"},
		{"-t --", "Missing argument for option: t"},
		{"-x", "Unrecognized option: -x"},
		{"--unknown y", "Unrecognized option: --unknown"},
		{"---topic y", "Unrecognized option: ---topic"},
		{"--help=1", "Unrecognized option: --help=1"},
		{"--chec", "Unrecognized option: --chec"},
		{"--broker x", "Ambiguous option: '--broker'  (could be: 'brokerAddr', 'brokerName')"},
	}
	for _, test := range mistakes {
		_, err := parseClassic(strings.Fields(test.args), spec)
		if err == nil || err.Error() != test.want || ExitCode(err) != exitUsage {
			t.Errorf("%s: got %v with code %d, want %s", test.args, err, ExitCode(err), test.want)
		}
	}
}

func TestParseServerFlags(t *testing.T) {
	tests := []struct {
		args string
		want serverFlags
	}{
		{"", serverFlags{}},
		{"-n localhost:9876", serverFlags{NamesrvAddr: "localhost:9876"}},
		{"-n a:1;b:2 -c broker-a.properties", serverFlags{NamesrvAddr: "a:1;b:2", ConfigFiles: []string{"broker-a.properties"}}},
		{"--namesrvAddr a:1 --configFile x.conf", serverFlags{NamesrvAddr: "a:1", ConfigFiles: []string{"x.conf"}}},
		{"-namesrvAddr a:1 -configFile x.conf", serverFlags{NamesrvAddr: "a:1", ConfigFiles: []string{"x.conf"}}},
		{"-c a.conf -c b.conf", serverFlags{ConfigFiles: []string{"a.conf", "b.conf"}}},
		{"-p", serverFlags{PrintConfig: true}},
		{"--printConfigItem", serverFlags{PrintConfig: true}},
		{"--print-effective", serverFlags{PrintConfig: true}},
		{"-m", serverFlags{PrintImportant: true}},
		{"-printImportantConfig", serverFlags{PrintImportant: true}},
		{"--strict --check", serverFlags{Strict: true, Check: true}},
		{"--enable-proxy", serverFlags{EnableProxy: true}},
		{"-h", serverFlags{Help: true}},
		{"-c -h", serverFlags{Help: true}}, // -h wins over a mistake
		{"--unknown --help", serverFlags{Help: true}},
	}
	for _, test := range tests {
		got, err := parseBrokerFlags(strings.Fields(test.args))
		if err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: got %+v, %v, want %+v", test.args, got, err, test.want)
		}
	}
	mistakes := []struct {
		args, want string
		code       int
	}{
		{"-x", "Unrecognized option: -x", 1},
		{"-c", "Missing argument for option: c", 1},
		{`-c ""`, "-c names no file", 1},
		{"-n nowhere", `The Name Server Address[nowhere] illegal, please set it as follows, "127.0.0.1:9876;192.168.0.1:9876"`, 253},
		{"-n ;", "The Name Server Address[;] illegal", 253},
	}
	for _, test := range mistakes {
		_, err := parseBrokerFlags(strings.Fields(test.args))
		if err == nil || !strings.HasPrefix(err.Error(), test.want) || ExitCode(err) != test.code {
			t.Errorf("%s: got %v with code %d, want %s with %d", test.args, err, ExitCode(err), test.want, test.code)
		}
	}
	// A name server takes -n for the sake of old scripts, whatever it says.
	if got, err := parseNamesrvFlags([]string{"-n", "nowhere", "-c", "f", "-p"}); err != nil || !got.PrintConfig || got.ConfigFiles[0] != "f" {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := parseNamesrvFlags([]string{"-m"}); err == nil {
		t.Error("mqnamesrv has no -m")
	}
}

func TestUsageNamesEveryOption(t *testing.T) {
	for text, spec := range map[string]classicSpec{brokerUsage(): brokerSpec(), namesrvUsage(): namesrvSpec()} {
		if !strings.HasPrefix(text, "usage: "+spec.Program+" ") {
			t.Errorf("got %q", text)
		}
		for _, o := range spec.Options {
			if !strings.Contains(text, "--"+o.Long) || !strings.Contains(text, o.Help) {
				t.Errorf("%s is missing in\n%s", o.Long, text)
			}
		}
	}
}

func TestNamesrvList(t *testing.T) {
	good := map[string][]string{
		"":                         nil,
		";":                        nil,
		"127.0.0.1:9876":           {"127.0.0.1:9876"},
		" a:1 ; b.example.com:2; ": {"a:1", "b.example.com:2"},
		"[::1]:9876":               {"[::1]:9876"},
	}
	for list, want := range good {
		if got, err := parseNamesrvList(list); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: got %v, %v, want %v", list, got, err, want)
		}
	}
	for _, list := range []string{"host", "host:", ":9876", "host:0", "host:65536", "host:-1", "host:x", "a:1,b:2", "a b:1", "http://a:1", "a:1;b"} {
		if got, err := parseNamesrvList(list); ExitCode(err) != exitBadAddress || err.Error() != fmt.Sprintf(namesrvListIllegal, list) {
			t.Errorf("%q: got %v, %v", list, got, err)
		}
	}
}

func TestRoleFromArgv0(t *testing.T) {
	tests := []struct {
		argv0, role string
		ok          bool
	}{
		{"mqnamesrv", "namesrv", true}, {"/usr/local/bin/mqbroker", "broker", true}, {"./mqadmin", "admin", true},
		{`C:\rocketmq\bin\mqbroker.exe`, "broker", true}, {"rmq", "", false}, {"/opt/mqbroker/rmq", "", false}, {"", "", false},
	}
	for _, test := range tests {
		if role, ok := roleFromArgv0(test.argv0); role != test.role || ok != test.ok {
			t.Errorf("%s: got %s %t", test.argv0, role, ok)
		}
	}
}

func TestExitCode(t *testing.T) {
	if got := ExitCode(nil); got != 0 {
		t.Errorf("no error: %d", got)
	}
	if got := ExitCode(errors.New("x")); got != 255 {
		t.Errorf("any error: %d", got)
	}
	if got := ExitCode(fmt.Errorf("wrapped: %w", &exitError{exitBadModes, errors.New("x")})); got != 252 {
		t.Errorf("wrapped: %d", got)
	}
}

func FuzzParseClassic(f *testing.F) {
	f.Add("-c x -n a:1 --strict")
	f.Add("--=\x00-h")
	f.Fuzz(func(t *testing.T, line string) {
		args := strings.Split(line, " ")
		_, err := parseBrokerFlags(args)
		if code := ExitCode(err); code != 0 && code != exitUsage && code != exitBadAddress {
			t.Errorf("%q: exit code %d for %v", args, code, err)
		}
	})
}
