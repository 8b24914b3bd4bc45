package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// runDevNode is one node of a development cluster as a process of its own. attached says that the standard input ends
// when the whole cluster stops; a signal stops this node alone, which hands its leads over first.
func runDevNode(ctx context.Context, env environment, o devOptions, node int, attached bool) error {
	console := slog.NewTextHandler(env.stderr, &slog.HandlerOptions{Level: slog.LevelWarn})
	logger, logFile, err := openDevLog(filepath.Join(o.nodeDir(node), "log"), console)
	if err != nil {
		return err
	}
	defer logFile.Close()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	if attached {
		go func() { // ends with the process at the latest: a read cannot be interrupted
			_, _ = io.Copy(io.Discard, env.stdin)
			stop(errClusterStops)
		}()
	}
	pid := filepath.Join(o.nodeDir(node), "pid")
	if err := writeWhole(pid, []byte(strconv.Itoa(os.Getpid())+"\n")); err != nil {
		return err
	}
	defer removeOwnPid(pid)
	replicas, err := startReplicasOf(ctx, o, []int{node}, logger)
	if err != nil {
		return err
	}
	var addresses []string
	for i := range o.groups {
		addresses = append(addresses, devGroupName(i)+" "+o.address(node, i))
	}
	fmt.Fprintf(env.stdout, "node %d is ready, pid %d: %s\n", node, os.Getpid(), strings.Join(addresses, ", "))
	<-ctx.Done()
	if context.Cause(ctx) == errClusterStops {
		return replicas.stop()
	}
	if !attached && o.nodes > 1 {
		fmt.Fprintln(env.stdout, "stopping; the other nodes take over first")
	}
	replicas.leave()
	return nil
}

// errClusterStops is the end of a node whose cluster stops as a whole.
var errClusterStops = errors.New("the cluster stops")

// removeOwnPid removes a pid file unless it is another process's by now.
func removeOwnPid(path string) {
	if text, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(text)) == strconv.Itoa(os.Getpid()) {
		_ = os.Remove(path) // a stale pid is what a killed node leaves, too
	}
}
