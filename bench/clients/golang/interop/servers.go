package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"rmq/bench/clients/golang/harness"
)

const (
	brokerName = "broker-a"
	apacheStop = time.Minute // what Apache takes to end, on a busy machine
)

// servers is one name server and one broker, empty at the start.
type servers struct {
	namesrv, broker         *harness.Process
	namesrvAddr, brokerAddr string
	dir                     string
}

// startServers starts both below dir and returns once the broker has printed its boot line. version is that of the Apache servers, which
// rmq does not look at.
func startServers(ctx context.Context, o options, version, dir string) (*servers, error) {
	if err := harness.WriteJavaHome(o.clients, dir); err != nil {
		return nil, err
	}
	var ports harness.Ports
	namesrvPort, err := ports.Free()
	if err != nil {
		return nil, err
	}
	brokerPort, err := ports.Free(-2, 1)
	if err != nil {
		return nil, err
	}
	s := &servers{
		namesrvAddr: fmt.Sprintf("127.0.0.1:%d", namesrvPort),
		brokerAddr:  fmt.Sprintf("127.0.0.1:%d", brokerPort),
		dir:         dir,
	}
	files := map[string]string{
		"namesrv.properties": fmt.Sprintf("listenPort=%d\n", namesrvPort),
		"broker.properties":  brokerProperties(o, brokerPort, filepath.Join(dir, "store")),
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	namesrvArgs, brokerArgs := []string{"-c", "namesrv.properties"}, []string{"-n", s.namesrvAddr, "-c", "broker.properties"}
	var namesrvCmd, brokerCmd []string
	if o.target == "apache" {
		if namesrvCmd, err = harness.ApacheCommand(o.clients, version, "namesrv.NamesrvStartup", dir, "-Xmx128m"); err != nil {
			return nil, err
		}
		if brokerCmd, err = harness.ApacheCommand(o.clients, version, "broker.BrokerStartup", dir, "-Xms512m", "-Xmx512m", "-XX:MaxDirectMemorySize=512m"); err != nil {
			return nil, err
		}
	} else {
		namesrvCmd, brokerCmd = []string{o.rmq, "namesrv"}, []string{o.rmq, "broker"}
	}
	if s.namesrv, err = harness.Start("namesrv", dir, append(namesrvCmd, namesrvArgs...)); err != nil {
		return nil, err
	}
	if err := s.namesrv.AwaitLine(ctx, "The Name Server boot success. serializeType=JSON"); err != nil {
		return nil, errors.Join(err, s.stop())
	}
	if s.broker, err = harness.Start("broker", dir, append(brokerCmd, brokerArgs...)); err != nil {
		return nil, errors.Join(err, s.stop())
	}
	if o.target == "apache" {
		s.namesrv.StopTimeout, s.broker.StopTimeout = apacheStop, apacheStop
	}
	if err := s.broker.AwaitLine(ctx, fmt.Sprintf("The broker[%s, %s] boot success", brokerName, s.brokerAddr)); err != nil {
		return nil, errors.Join(err, s.stop())
	}
	return s, nil
}

// stop ends the broker, then the name server, and joins what was wrong with them.
func (s *servers) stop() error {
	var errs []error
	for _, p := range []*harness.Process{s.broker, s.namesrv} {
		if p != nil {
			errs = append(errs, p.Stop())
		}
	}
	return errors.Join(errs...)
}

func brokerProperties(o options, port int, store string) string {
	text := fmt.Sprintf(`brokerClusterName=DefaultCluster
brokerName=%s
brokerId=0
listenPort=%d
storePathRootDir=%s
brokerIP1=127.0.0.1
autoCreateTopicEnable=true
brokerRole=ASYNC_MASTER
flushDiskType=ASYNC_FLUSH
`, brokerName, port, store)
	if o.target == "apache" {
		// Left alone it refuses what waited 200 ms in its queue, which on a busy machine says nothing about the clients.
		text += fmt.Sprintf("haListenPort=%d\nstorePathCommitLog=%s/commitlog\nmappedFileSizeCommitLog=104857600\nwaitTimeMillsInSendQueue=5000\n",
			port+1, store)
	}
	return text
}
