package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
)

const brokerName = "broker-a"

// servers is one name server and one broker, empty at the start.
type servers struct {
	namesrv, broker         *process
	namesrvAddr, brokerAddr string
	dir                     string
}

// startServers starts both below dir and returns once the broker has printed its boot line. version is that of the Apache servers, which
// rmq does not look at.
func startServers(ctx context.Context, o options, version, dir string) (*servers, error) {
	if err := writeJavaHome(o, dir); err != nil {
		return nil, err
	}
	namesrvPort, err := freePort()
	if err != nil {
		return nil, err
	}
	brokerPort, err := freePort(-2, 1)
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
		if namesrvCmd, err = apacheCommand(o, version, "namesrv.NamesrvStartup", dir, "-Xmx128m"); err != nil {
			return nil, err
		}
		if brokerCmd, err = apacheCommand(o, version, "broker.BrokerStartup", dir, "-Xms512m", "-Xmx512m", "-XX:MaxDirectMemorySize=512m"); err != nil {
			return nil, err
		}
	} else {
		namesrvCmd, brokerCmd = []string{o.rmq, "namesrv"}, []string{o.rmq, "broker"}
	}
	if s.namesrv, err = startProcess("namesrv", dir, append(namesrvCmd, namesrvArgs...)); err != nil {
		return nil, err
	}
	if err := s.namesrv.awaitLine(ctx, "The Name Server boot success. serializeType=JSON"); err != nil {
		return nil, errors.Join(err, s.stop())
	}
	if s.broker, err = startProcess("broker", dir, append(brokerCmd, brokerArgs...)); err != nil {
		return nil, errors.Join(err, s.stop())
	}
	if o.target == "apache" {
		s.namesrv.stopTimeout, s.broker.stopTimeout = 3*stopTimeout, 3*stopTimeout
	}
	if err := s.broker.awaitLine(ctx, fmt.Sprintf("The broker[%s, %s] boot success", brokerName, s.brokerAddr)); err != nil {
		return nil, errors.Join(err, s.stop())
	}
	return s, nil
}

// stop ends the broker, then the name server, and joins what was wrong with them.
func (s *servers) stop() error {
	var errs []error
	for _, p := range []*process{s.broker, s.namesrv} {
		if p != nil {
			errs = append(errs, p.stop())
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

// apacheCommand is the command line of a main class of org.apache.rocketmq from the server class path of a version.
func apacheCommand(o options, version, class, home string, flags ...string) ([]string, error) {
	classPath, err := os.ReadFile(filepath.Join(o.clients, "java/target", version, "server.cp"))
	if err != nil {
		return nil, fmt.Errorf("setup.sh apache has not run: %w", err)
	}
	cmd := append(javaCommand(home), flags...)
	return append(cmd, "-cp", string(classPath), "org.apache.rocketmq."+class), nil
}

// freePort returns a port that was free a moment ago together with those at the given distances from it. It stays below the range from
// which Linux takes the ports of outgoing connections, for such a port may be taken before the server listens on it.
func freePort(distances ...int) (int, error) {
	distances = append([]int{0}, distances...)
	for range 100 {
		port := 10_000 + rand.IntN(20_000)
		var held []net.Listener
		for _, d := range distances {
			if n, err := net.Listen("tcp", fmt.Sprintf(":%d", port+d)); err == nil {
				held = append(held, n)
			}
		}
		for _, h := range held {
			h.Close()
		}
		if len(held) == len(distances) {
			return port, nil
		}
	}
	return 0, errors.New("no free ports found")
}
