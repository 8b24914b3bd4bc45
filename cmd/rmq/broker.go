package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"rmq/controller"
)

// stopTimeout bounds a clean stop; what is left after it is left to recovery.
const stopTimeout = 10 * time.Second

// runBroker is `rmq broker`: one replica of one group for each -c.
func runBroker(ctx context.Context, env environment, args []string) error {
	flags, err := parseBrokerFlags(args)
	if err != nil {
		if ExitCode(err) == exitUsage {
			fmt.Fprint(env.stderr, brokerUsage())
		}
		return err
	}
	if flags.Help {
		fmt.Fprint(env.stdout, brokerUsage())
		return nil
	}
	console := slog.NewTextHandler(env.stderr, &slog.HandlerOptions{Level: slog.LevelWarn})
	if flags.Check || flags.PrintConfig || flags.PrintImportant {
		configs, err := loadBrokerConfigs(flags, env, slog.New(console))
		if err != nil || flags.Check {
			return err
		}
		for _, c := range configs {
			if err := PrintItems(env.stdout, c.Items(), flags.PrintImportant); err != nil {
				return err
			}
		}
		return nil
	}
	logger, logFile, err := OpenRoleLog(env.getenv, "broker.log", slog.LevelInfo, console)
	if err != nil {
		logger.Warn("no broker.log", "error", err)
	}
	defer logFile.Close()
	configs, err := loadBrokerConfigs(flags, env, logger)
	if err != nil {
		return err
	}
	if flags.EnableProxy {
		logger.Warn("--enable-proxy has no effect: rmq has no gRPC proxy yet")
	}

	groups := newGroupSet(nodeName(configs[0]), logger)
	defer groups.leave()
	failed, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	groups.emptied = fail
	var starting sync.WaitGroup
	var saying sync.Mutex
	say := func(line string) {
		saying.Lock()
		defer saying.Unlock()
		fmt.Fprintln(env.stdout, line)
		logger.Info(line)
	}
	for _, c := range configs {
		starting.Go(func() {
			waits := time.AfterFunc(startPatience, func() { say(brokerWaitLine(c)) })
			defer waits.Stop()
			g, err := groups.start(failed, c, logger)
			if err != nil {
				fail(err) // the first one is the reason why the others fail
				return
			}
			say(brokerBootLine(c))
			logger.Info("Raft", "group", c.BrokerName, "term", g.log.Term(), "role", g.log.Status().State, "directory", replicaDir(c))
		})
	}
	starting.Wait()
	if context.Cause(failed) == nil {
		<-failed.Done() // ctx is done, or there is no replica left
	}
	if ctx.Err() != nil {
		return nil
	}
	return context.Cause(failed)
}

// startPatience is how long a start may take before the operator is told what it waits for.
const startPatience = 3 * time.Second

// brokerWaitLine says what a replica waits for that is not up yet.
func brokerWaitLine(c *BrokerConfig) string {
	what := "for its group to have a leader, or for the replicas that found it"
	if founding(c) == controller.Join {
		what = "for a leader of its group, which the name servers have to know, to take it in"
	}
	return fmt.Sprintf("The broker[%s, %s:%d] waits %s; broker.log has the details", c.BrokerName, c.BrokerIP1, c.ListenPort, what)
}

// nodeName is what a process is called when leaders are spread over processes.
func nodeName(c *BrokerConfig) string {
	return net.JoinHostPort(c.BrokerIP1, strconv.Itoa(c.ListenPort))
}

// loadBrokerConfigs reads one configuration per -c, or the defaults when there is none.
func loadBrokerConfigs(flags serverFlags, env environment, logger *slog.Logger) ([]*BrokerConfig, error) {
	files := flags.ConfigFiles
	if len(files) == 0 {
		files = []string{""}
	}
	var configs []*BrokerConfig
	for _, file := range files {
		c, err := LoadBrokerConfig(file, env.getenv, logger, flags.Strict)
		if err != nil {
			return nil, err
		}
		if file == "" {
			// Nobody asked for speed over safety: without a file, what is acknowledged is on disk.
			c.FlushDiskType = SyncFlush
		}
		if flags.NamesrvAddr != "" {
			if err := c.OverrideNamesrvAddr(flags.NamesrvAddr); err != nil {
				return nil, err
			}
		}
		if err := refuseForeignStore(c.StorePathRootDir); err != nil {
			return nil, err
		}
		configs = append(configs, c)
	}
	return configs, nil
}

// brokerBootLine is the line that operators and scripts wait for.
func brokerBootLine(c *BrokerConfig) string {
	line := fmt.Sprintf("The broker[%s, %s:%d] boot success. serializeType=JSON", c.BrokerName, c.BrokerIP1, c.ListenPort)
	if len(c.NamesrvAddr) > 0 {
		line += " and name server is " + strings.Join(c.NamesrvAddr, ";")
	}
	return line
}

// exitOnFault ends the process when a log can go no further: the exit code tells the supervisor why, and connections
// close so that clients turn elsewhere at once.
func exitOnFault(logger *slog.Logger) func(code int, id string, err error) {
	return func(code int, id string, err error) {
		logger.Error(id, "exit", code, "error", err)
		os.Exit(code)
	}
}
