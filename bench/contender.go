package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Flush modes, spelled as in a broker's property file.
const (
	asyncFlush = "ASYNC_FLUSH"
	syncFlush  = "SYNC_FLUSH"
)

// contender is a broker that a comparison can start on this machine: one name server and one broker, both processes of
// their own, on loopback.
type contender interface {
	// name is the contender's column in the results.
	name() string
	// prepare finds or fetches what start needs, outside of any measurement.
	prepare(ctx context.Context) error
	// version describes what was prepared.
	version() string
	// command returns the program and the arguments that start a role with a property file. dir is the run's own
	// directory: everything that the process writes has to lie in it.
	command(role role, dir, configFile string) (program string, args []string)
}

// role is what a process of a contender does.
type role string

const (
	roleNameServer role = "namesrv"
	roleBroker     role = "broker"
)

// deployment is a running contender.
type deployment struct {
	nameServer string // address for clients
	dir        string
	processes  []*process
}

const (
	startTimeout = 60 * time.Second
	stopGrace    = 30 * time.Second
	pollInterval = 100 * time.Millisecond
)

// deploy starts a contender in a directory that it makes, and waits until the broker is registered with the name server.
// On error everything it started has ended again.
func deploy(ctx context.Context, c contender, dir, flush string) (*deployment, error) {
	ports, err := freePorts(ctx)
	if err != nil {
		return nil, err
	}
	d := &deployment{nameServer: fmt.Sprintf("127.0.0.1:%d", ports.nameServer), dir: dir}
	for _, r := range []role{roleNameServer, roleBroker} {
		if err := d.start(c, r, configText(r, dir, flush, ports)); err != nil {
			return nil, errors.Join(err, d.stop())
		}
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := d.await(ctx); err != nil {
		return nil, errors.Join(err, d.stop())
	}
	return d, nil
}

func (d *deployment) start(c contender, r role, config string) error {
	for _, sub := range []string{"", "home", "tmp"} {
		if err := os.MkdirAll(filepath.Join(d.dir, sub), 0o755); err != nil {
			return err
		}
	}
	file := filepath.Join(d.dir, string(r)+".properties")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		return err
	}
	program, args := c.command(r, d.dir, file)
	p, err := startProcess(c.name()+" "+string(r), filepath.Join(d.dir, "home"), filepath.Join(d.dir, string(r)+".out"), program, args...)
	if err != nil {
		return err
	}
	d.processes = append(d.processes, p)
	return nil
}

// await polls the name server until a broker is registered.
func (d *deployment) await(ctx context.Context) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	var last error
	for {
		for _, p := range d.processes {
			if err := p.ended(); err != nil {
				return err
			}
		}
		if last = brokerRegistered(ctx, d.nameServer); last == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("bench: no broker registered with %s: %w", d.nameServer, errors.Join(ctx.Err(), last))
		case <-tick.C:
		}
	}
}

// broker is the broker's process.
func (d *deployment) broker() *process { return d.processes[len(d.processes)-1] }

// usage is what name server and broker together have used so far; memory and bytes written are the broker's alone.
func (d *deployment) usage() (processUsage, error) {
	u, err := d.broker().usage()
	if err != nil {
		return u, err
	}
	ns, err := d.processes[0].usage()
	u.CPUSeconds += ns.CPUSeconds
	return u, err
}

// stop ends the processes, the broker first, and waits for them.
func (d *deployment) stop() error {
	var errs []error
	for i := len(d.processes) - 1; i >= 0; i-- {
		errs = append(errs, d.processes[i].stop(stopGrace))
	}
	return errors.Join(errs...)
}

// portSet is where a deployment listens. A broker also takes the ports two below and one above its own.
type portSet struct{ nameServer, broker int }

// configText is a role's property file. Contenders get the same one, so that no setting but the flush mode is other than
// what the contender ships.
func configText(r role, dir, flush string, p portSet) string {
	if r == roleNameServer {
		return fmt.Sprintf("listenPort=%d\n", p.nameServer)
	}
	return fmt.Sprintf(`brokerClusterName=DefaultCluster
brokerName=broker-a
brokerId=0
brokerRole=ASYNC_MASTER
flushDiskType=%s
brokerIP1=127.0.0.1
listenPort=%d
namesrvAddr=127.0.0.1:%d
storePathRootDir=%s
storePathCommitLog=%s
`, flush, p.broker, p.nameServer, filepath.Join(dir, "store"), filepath.Join(dir, "store", "commitlog"))
}

// freePorts finds ports that nobody listens on now. They are released before they are used, so somebody may still take
// one: the contender then fails to start and says so.
func freePorts(ctx context.Context) (portSet, error) {
	var lc net.ListenConfig
	listen := func(port int) (net.Listener, error) {
		return lc.Listen(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	}
	const attempts = 50
	for range attempts {
		var held []net.Listener
		release := func() {
			for _, l := range held {
				l.Close()
			}
		}
		ns, err := listen(0)
		if err != nil {
			return portSet{}, err
		}
		held = append(held, ns)
		broker, err := listen(0)
		if err != nil {
			release()
			return portSet{}, err
		}
		held = append(held, broker)
		p := portSet{
			nameServer: ns.Addr().(*net.TCPAddr).Port,
			broker:     broker.Addr().(*net.TCPAddr).Port,
		}
		all := p.broker > 1026 && p.broker < 65535
		for _, side := range []int{p.broker - 2, p.broker + 1} {
			if !all {
				break
			}
			l, err := listen(side)
			if err != nil {
				all = false
				break
			}
			held = append(held, l)
		}
		release()
		if all {
			return p, nil
		}
	}
	return portSet{}, errors.New("bench: no free ports for a broker on 127.0.0.1")
}
