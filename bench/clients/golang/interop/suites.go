package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"rmq/bench/clients/golang/harness"
)

// suite is one client program and how to run it.
type suite struct {
	name   string
	server string // version of the Apache servers it is validated against
	argv   func(s *servers) []string
}

// allSuites lists the suites in running order. It compiles the Go tests, and fails if setup.sh has not prepared the Java side.
func allSuites(ctx context.Context, o options) ([]suite, error) {
	if _, err := exec.LookPath("java"); err != nil {
		return nil, fmt.Errorf("java is MISSING, the Java clients cannot be tested: %w", err)
	}
	conformance := func(version string, args []string, jvm ...string) func(*servers) []string {
		return func(s *servers) []string {
			args := append([]string{"--namesrv", s.namesrvAddr, "--messages", strconv.Itoa(o.messages)}, args...)
			return harness.ClientCommand(o.clients, version, "Conformance", s.dir, jvm, args)
		}
	}
	mqadmin := func(version string) func(*servers) []string {
		return func(s *servers) []string {
			return harness.ClientCommand(o.clients, version, "Mqadmin", s.dir, nil, []string{"--namesrv", s.namesrvAddr, "--version", version})
		}
	}
	for _, version := range []string{"4.9.8", "5.3.3"} {
		if _, err := os.Stat(filepath.Join(o.clients, "java/target", version, "classes")); err != nil {
			return nil, fmt.Errorf("setup.sh has not run: %w", err)
		}
	}
	goTests, err := compileGoTests(ctx, o)
	if err != nil {
		return nil, err
	}
	// Apache 4.9.7 searches offsets by time less exactly than the cases demand; Apache 5.3.3 lacks a key that mqadmin 4.9.8 needs.
	return []suite{
		{"java-4.9.8", "5.3.3", conformance("4.9.8", nil)},
		{"java-5.3.3", "5.3.3", conformance("5.3.3", nil)},
		{"java-5.3.3-binary-headers", "5.3.3", conformance("5.3.3", []string{"--skip", "load"}, "-Drocketmq.serialize.type=ROCKETMQ")},
		{"mqadmin-4.9.8", "4.9.7", mqadmin("4.9.8")},
		{"mqadmin-5.3.3", "5.3.3", mqadmin("5.3.3")},
		{"go-2.1.2", "5.3.3", func(*servers) []string {
			return []string{goTests, "-test.v", "-test.parallel=8", "-messages=" + strconv.Itoa(o.messages)}
		}},
	}, nil
}

func compileGoTests(ctx context.Context, o options) (string, error) {
	binary := filepath.Join(o.clients, "golang/target/clients.test")
	cmd := exec.CommandContext(ctx, "go", "test", "-c", "-o", binary, ".")
	cmd.Dir = filepath.Join(o.clients, "golang")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("compile the Go tests: %w\n%s", err, out)
	}
	return binary, nil
}

// runClient runs the suite to its end, or to that of ctx, and returns what it wrote to stdout, where results are; logPath keeps that and stderr.
func runClient(ctx context.Context, s suite, on *servers, logPath string) (string, error) {
	argv := s.argv(on)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = on.dir
	cmd.Env = append(os.Environ(), "HOME="+on.dir, "NAMESRV_ADDR="+on.namesrvAddr, "BROKER_ADDR="+on.brokerAddr, "BROKER_NAME="+brokerName)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = 5 * time.Second
	log, err := os.Create(logPath)
	if err != nil {
		return "", err
	}
	defer log.Close()
	var results strings.Builder
	cmd.Stdout, cmd.Stderr = io.MultiWriter(&results, log), log
	err = cmd.Run()
	if ctx.Err() != nil {
		err = fmt.Errorf("stopped before its end: %w", context.Cause(ctx))
	}
	return results.String(), err
}
