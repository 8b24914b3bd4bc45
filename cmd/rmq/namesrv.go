package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"rmq/compat/namesrv"
	"rmq/controller"
	"rmq/remoting"
)

// runNamesrv is `rmq namesrv`.
func runNamesrv(ctx context.Context, env environment, args []string) error {
	flags, err := parseNamesrvFlags(args)
	if err != nil {
		if ExitCode(err) == exitUsage {
			fmt.Fprint(env.stderr, namesrvUsage())
		}
		return err
	}
	if flags.Help {
		fmt.Fprint(env.stdout, namesrvUsage())
		return nil
	}
	file := ""
	if len(flags.ConfigFiles) > 0 {
		file = flags.ConfigFiles[0]
	}
	console := slog.NewTextHandler(env.stderr, &slog.HandlerOptions{Level: slog.LevelWarn})
	if flags.Check || flags.PrintConfig || flags.PrintImportant {
		c, err := LoadNamesrvConfig(file, env.getenv, slog.New(console), flags.Strict)
		if err != nil || flags.Check {
			return err
		}
		return PrintItems(env.stdout, c.Items(), flags.PrintImportant)
	}
	logger, logFile, err := OpenRoleLog(env.getenv, "namesrv.log", slog.LevelInfo, console)
	if err != nil {
		logger.Warn("no namesrv.log", "error", err)
	}
	defer logFile.Close()
	c, err := LoadNamesrvConfig(file, env.getenv, logger, flags.Strict)
	if err != nil {
		return err
	}
	if file != "" {
		fmt.Fprintf(env.stdout, "load config properties file OK, %s\n", file)
	}
	n, err := startNameServer(c, logger)
	if err != nil {
		return err
	}
	line := fmt.Sprintf("The Name Server boot success. serializeType=JSON, address %s:%d", c.BindAddress, c.ListenPort)
	fmt.Fprintln(env.stdout, line)
	logger.Info(line)
	if c.ControllerPort() != "" {
		line := "The ControllerManager boot success. serializeType=JSON"
		fmt.Fprintln(env.stdout, line)
		logger.Info(line)
	}
	<-ctx.Done()
	return n.close()
}

// nameServer is a running name server.
type nameServer struct {
	table    *namesrv.NameServer
	server   *remoting.Server
	arbiters *controller.Arbiters // nil if none are offered
	client   *remoting.Client     // for notices to brokers
}

func startNameServer(c *NamesrvConfig, logger *slog.Logger) (*nameServer, error) {
	settings := namesrv.DefaultSettings()
	settings.OrderMessages = c.OrderMessageEnable
	settings.OrderConfToBrokers = c.ReturnOrderTopicConfigToBroker
	settings.TopicLists = c.EnableTopicList
	settings.AllTopicList = c.EnableAllTopicList
	settings.CompleteTopics = c.DeleteTopicWithBrokerRegistration
	settings.NotifyMinID = c.NotifyMinBrokerIDChanged
	settings.ActingMaster = c.SupportActingMaster
	settings.WaitForBrokers = c.NeedWaitForService
	settings.WaitForBrokersFor = c.WaitSecondsForService
	settings.ScanInterval = c.ScanNotActiveBrokerInterval
	fixed := make(map[string]string)
	for _, item := range c.Items() {
		fixed[item.Key] = item.Value
	}
	for _, key := range namesrv.SettingKeys() {
		delete(fixed, key)
	}
	if err := os.MkdirAll(filepath.Dir(c.KvConfigPath), 0o755); err != nil {
		return nil, err
	}
	client := remoting.NewClient(remoting.ClientOptions{Logger: logger})
	n := &nameServer{client: client}
	options := namesrv.Options{
		Client:       client,
		KVConfigPath: c.KvConfigPath, Settings: &settings, FixedKeys: fixed,
		RouteRequestsMax: c.ClientRequestThreadPoolQueueCapacity, RequestsMax: c.DefaultThreadPoolQueueCapacity, Logger: logger,
	}
	var err error
	if c.ArbiterListenPort > 0 {
		n.arbiters, err = controller.OpenArbiters(c.ArbiterStorePath, controller.ArbiterOptions{
			Listen: c.BindAddress, Advertise: c.ArbiterAddress, FirstPort: c.ArbiterListenPort, BytesMax: c.ArbiterMaxBytes, Logger: logger,
		})
		if err != nil {
			return nil, errors.Join(err, n.close())
		}
		options.Arbiters = n.arbiters
	}
	if n.table, err = namesrv.New(options); err != nil {
		return nil, errors.Join(err, n.close())
	}
	mux := remoting.NewMux()
	n.table.Register(mux)
	addrs := []string{net.JoinHostPort(c.BindAddress, strconv.Itoa(c.ListenPort))}
	if port := c.ControllerPort(); port != "" && port != strconv.Itoa(c.ListenPort) {
		addrs = append(addrs, net.JoinHostPort(c.BindAddress, port))
	}
	n.server, err = remoting.Listen(remoting.ServerOptions{
		Addrs: addrs, Mux: mux, Logger: logger,
		IdleTimeout: c.ServerChannelMaxIdleTimeSeconds,
	})
	if err != nil {
		return nil, errors.Join(err, n.close())
	}
	return n, nil
}

// close stops what has been started, which may be a part.
func (n *nameServer) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	var errs []error
	if n.server != nil {
		errs = append(errs, n.server.Close(ctx))
	}
	if n.table != nil {
		errs = append(errs, n.table.Close())
	}
	if n.arbiters != nil {
		errs = append(errs, n.arbiters.Close())
	}
	return errors.Join(append(errs, n.client.Close())...)
}
