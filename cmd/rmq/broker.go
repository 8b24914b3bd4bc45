package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"rmq/remoting"
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

	client := remoting.NewClient(remoting.ClientOptions{Logger: logger})
	defer client.Close()
	groups := groupSet{logger: logger}
	defer groups.close()
	for _, c := range configs {
		g, err := startGroup(ctx, groupOptions{config: c, client: client, logger: logger, fatal: exitOnFault(logger)})
		if err != nil {
			return err
		}
		groups.add(g)
		line := brokerBootLine(c)
		fmt.Fprintln(env.stdout, line)
		logger.Info(line)
		logger.Info("Raft", "group", c.BrokerName, "term", g.log.Term(), "role", g.log.Status().State, "directory", replicaDir(c))
	}
	<-ctx.Done()
	return nil
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
		if err := checkReplica(c); err != nil {
			return nil, err
		}
		if err := refuseForeignStore(c.StorePathRootDir); err != nil {
			return nil, err
		}
		configs = append(configs, c)
	}
	return configs, nil
}

// checkReplica refuses configurations of a replica among several that are not listed: started alone, it would found a
// second group of the same name.
func checkReplica(c *BrokerConfig) error {
	switch {
	case c.BrokerRole == Slave && c.BrokerID != 0:
		return fmt.Errorf("broker %s has brokerRole=SLAVE: this version replicates groups that list their members in dLegerPeers only; start the file of the master alone", c.BrokerName)
	case c.BrokerID < 0 && !c.EnableDLegerCommitLog:
		return fmt.Errorf("broker %s has brokerId=-1, which asks for a number in a group of several replicas: this version replicates groups that list their members in dLegerPeers only", c.BrokerName)
	}
	return nil
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

// groupSet stops the groups of a process together.
type groupSet struct {
	logger *slog.Logger
	groups []*group
}

func (s *groupSet) add(g *group) { s.groups = append(s.groups, g) }

func (s *groupSet) close() {
	began := time.Now()
	s.logger.Info("Shutdown hook was invoked, 1")
	var all sync.WaitGroup
	for _, g := range s.groups {
		all.Go(func() {
			g.leave()
			ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
			defer cancel()
			g.close(ctx)
		})
	}
	all.Wait()
	s.logger.Info(fmt.Sprintf("Shutdown hook over, consuming total time(ms): %d", time.Since(began).Milliseconds()))
}
