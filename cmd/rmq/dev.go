package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/pflag"

	"rmq/remoting"
)

const (
	devClusterName = "DefaultCluster"
	devLoopback    = "127.0.0.1"
	devSource      = "rmq dev" // of the settings that differ from the defaults
	// devPortStep keeps the ports of the groups of `rmq dev` apart: each takes its client port, that - 2 and that + 1.
	devPortStep = 20
	// devGroupsMax is how many names broker-a ... broker-z there are.
	devGroupsMax = 26
)

// runDev is `rmq dev`: a name server and one or more broker groups in this process, on the loopback interface.
func runDev(ctx context.Context, env environment, args []string) error {
	f := pflag.NewFlagSet("dev", pflag.ContinueOnError)
	data := f.String("data", "rmq-data", "directory that keeps everything")
	namesrvPort := f.Int("namesrv-port", 9876, "port of the name server")
	brokerPort := f.Int("broker-port", 10911, "port of the first broker group; the next ones follow in steps of 20")
	groups := f.Int("groups", 1, "number of broker groups")
	verbose := f.BoolP("verbose", "v", false, "log to the error output")
	if asked, err := parseFlags(f, env, "rmq dev [--data DIR] [--namesrv-port 9876] [--broker-port 10911] [--groups M]\nRuns everything in this process, reachable from this machine only.", args); asked || err != nil {
		return err
	}
	switch {
	case f.NArg() > 0:
		return &exitError{exitUsage, fmt.Errorf("unexpected argument %q", f.Arg(0))}
	case *groups < 1 || *groups > devGroupsMax:
		return &exitError{exitUsage, fmt.Errorf("--groups must lie in 1..%d", devGroupsMax)}
	case *namesrvPort < 1 || *namesrvPort > 65535 || *brokerPort < 3 || *brokerPort+devPortStep*(*groups-1) > 65535:
		return &exitError{exitUsage, errors.New("a port is outside 1..65535 (the broker also takes its port - 2)")}
	}
	level := slog.LevelWarn
	if *verbose {
		level = slog.LevelInfo
	}
	logger := slog.New(slog.NewTextHandler(env.stderr, &slog.HandlerOptions{Level: level}))
	began := time.Now()
	nc, err := namesrvConfigOf(map[string]string{
		"bindAddress": devLoopback, "listenPort": strconv.Itoa(*namesrvPort), "kvConfigPath": filepath.Join(*data, "namesrv", "kvConfig.json"),
	}, devSource)
	if err != nil {
		return err
	}
	names, err := startNameServer(nc, logger)
	if err != nil {
		return portHint(err, "--namesrv-port", *namesrvPort)
	}
	defer names.close()
	client := remoting.NewClient(remoting.ClientOptions{Logger: logger})
	defer client.Close()
	set := groupSet{logger: logger}
	defer set.close()
	fmt.Fprintf(env.stdout, "rmq %s  development mode: no authentication, this machine only, data in %s\n", version, *data)
	fmt.Fprintf(env.stdout, "  name server   %s:%d      NAMESRV_ADDR for your applications\n", devLoopback, *namesrvPort)
	for i := range *groups {
		c, err := devBrokerConfig(*data, i, *brokerPort+devPortStep*i, *namesrvPort, logger)
		if err != nil {
			return err
		}
		g, err := startGroup(ctx, groupOptions{config: c, client: client, logger: logger, fatal: exitOnFault(logger)})
		if err != nil {
			return portHint(err, "--broker-port", c.ListenPort)
		}
		set.add(g)
		fmt.Fprintf(env.stdout, "  %-13s %s     RocketMQ 4.x and 5.x remoting clients\n", c.BrokerName, g.addr)
	}
	fmt.Fprintf(env.stdout, "ready in %d ms.  Next: rmq send -n %s:%d -t hello \"first message\"\n", time.Since(began).Milliseconds(), devLoopback, *namesrvPort)
	<-ctx.Done()
	fmt.Fprintln(env.stdout, "stopping")
	return nil
}

// devBrokerConfig depends on its arguments only: a developer's NAMESRV_ADDR and the like must not reach into the
// development cluster.
func devBrokerConfig(data string, i, port, namesrvPort int, logger *slog.Logger) (*BrokerConfig, error) {
	return brokerConfigOf(map[string]string{
		"brokerClusterName": devClusterName, "brokerName": "broker-" + string(rune('a'+i)), "brokerId": "0",
		"bindAddress": devLoopback, "brokerIP1": devLoopback, "listenPort": strconv.Itoa(port),
		"storePathRootDir": data, "namesrvAddr": devLoopback + ":" + strconv.Itoa(namesrvPort),
	}, devSource, logger)
}

// portHint says what to do about a port that is taken.
func portHint(err error, flag string, port int) error {
	if errors.Is(err, errAddressInUse) {
		return fmt.Errorf("%w: another program has it (`ss -ltnp 'sport = :%d'` names it); choose another with %s", err, port, flag)
	}
	return err
}
