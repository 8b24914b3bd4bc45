package controller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"rmq/raftlog"
	"rmq/remoting/protocol"
)

// ArbiterOptions describes where arbiters live. The zero value of a field means its default where one is named.
type ArbiterOptions struct {
	// Listen is the host that Raft ports are opened on, Advertise the one that brokers reach them at; both needed.
	Listen, Advertise string
	// FirstPort is tried first for a new arbiter, then the ports above it. 0 takes any free port. An arbiter keeps its port.
	FirstPort int
	Max       int   // arbiters; default 64
	BytesMax  int64 // that one arbiter keeps before it wants to be relieved. Default 1 GiB
	// BytesLimit is where it gives up, so that no disk is filled: its group is without it before a leader could relieve it, and
	// stands still if another voter is away. Default 1 GiB more than BytesMax.
	BytesLimit int64
	// SegmentBytes is the unit in which an arbiter drops what is not needed any more. Default 32 MiB, and no less than what holds a
	// group's largest entry.
	SegmentBytes int64
	// HandOver is how long an arbiter that was elected may take to complete a data replica, MutedFor how long it takes no part in
	// elections if it could not. Defaults 5 s and 30 s.
	HandOver, MutedFor time.Duration
	// Timings are Raft's. Default: 450 ms where data replicas have 300, so that one of those is elected if it can be.
	Timings raftlog.Timings
	Logger  *slog.Logger // default: none
}

func (o *ArbiterOptions) complete() error {
	o.Max = cmp.Or(o.Max, 64)
	o.BytesMax = cmp.Or(o.BytesMax, 1<<30)
	o.BytesLimit = cmp.Or(o.BytesLimit, o.BytesMax+1<<30)
	o.SegmentBytes = cmp.Or(o.SegmentBytes, 32<<20)
	o.HandOver = cmp.Or(o.HandOver, 5*time.Second)
	o.MutedFor = cmp.Or(o.MutedFor, 30*time.Second)
	if o.Timings == (raftlog.Timings{}) {
		o.Timings = raftlog.Timings{Heartbeat: 450 * time.Millisecond, Election: 450 * time.Millisecond}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Listen == "" || o.Advertise == "" || o.FirstPort < 0 || o.FirstPort > 65535 || o.Max < 1 || o.BytesMax < 1 {
		return fmt.Errorf("arbiters: on %q, reached at %q, from port %d on, at most %d with %d bytes each", o.Listen, o.Advertise, o.FirstPort, o.Max, o.BytesMax)
	}
	return nil
}

// Arbiters are the arbiters that one process hosts, each a Raft voter of another group: it keeps the entries that some data replica
// may still lack, serves nobody, and hands the lead on if it is elected. ARBITER.md has the rules. All methods are safe for
// concurrent use.
type Arbiters struct {
	dir string
	o   ArbiterOptions

	mu     sync.Mutex // held while an arbiter is made
	all    map[string]*arbiter
	closed bool
	quit   chan struct{}  // closed with it
	tasks  sync.WaitGroup // removals
}

// OpenArbiters opens the arbiters that are kept in dir, and those that brokers will ask for. One that cannot be opened is reported
// by its status and the log; it does not keep the others from their work.
func OpenArbiters(dir string, o ArbiterOptions) (*Arbiters, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("arbiters: %w", err)
	}
	names, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("arbiters: %w", err)
	}
	h := &Arbiters{dir: dir, o: o, all: map[string]*arbiter{}, quit: make(chan struct{})}
	for _, name := range names {
		if err := h.reopen(name.Name()); err != nil {
			return nil, errors.Join(fmt.Errorf("arbiters: %w", err), h.Close())
		}
	}
	return h, nil
}

// reopen starts the arbiter of a directory, or removes what is left of one.
func (h *Arbiters) reopen(name string) error {
	dir := filepath.Join(h.dir, name)
	f, err := readArbiterFile(dir)
	switch {
	case errors.Is(err, os.ErrNotExist) && len(name) == arbiterDirName: // it was being made or removed
		return os.RemoveAll(dir)
	case err != nil:
		h.o.Logger.Error("an arbiter is left out: its file cannot be read", "dir", dir, "error", err)
		return nil
	case arbiterDir(f.Cluster, f.Group) != name:
		h.o.Logger.Error("an arbiter is left out: it lies in another one's directory", "dir", dir, "group", f.Group)
		return nil
	}
	a := newArbiter(h, dir, f)
	h.all[groupKey(f.Cluster, f.Group)] = a
	a.launch()
	return nil
}

// Close stops all arbiters and waits for them.
func (h *Arbiters) Close() error {
	h.mu.Lock()
	if !h.closed {
		h.closed = true
		close(h.quit)
	}
	var all []*arbiter
	for _, a := range h.all {
		all = append(all, a)
	}
	h.mu.Unlock()
	errs := make([]error, len(all))
	var closing sync.WaitGroup
	for i, a := range all {
		closing.Go(func() { errs[i] = a.close() })
	}
	closing.Wait()
	h.tasks.Wait()
	return errors.Join(errs...)
}

// arbiterRefusal is an Offer that is refused; the code goes to the broker.
type arbiterRefusal struct {
	code int32
	text string
}

func (r *arbiterRefusal) Error() string       { return r.text }
func (r *arbiterRefusal) ResponseCode() int32 { return r.code }

// entryBytesDefault is the largest entry of a group that does not say.
const entryBytesDefault = 16 << 20

// Offer returns the arbiter of the group, which it makes if there is none: it listens then, and waits to be seeded. An error with a
// method ResponseCode() int32 is a refusal.
func (h *Arbiters) Offer(ctx context.Context, q protocol.ArbiterRequest) (protocol.ArbiterOffer, error) {
	shares := h.sharesHost(q.DataAddrs)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return protocol.ArbiterOffer{}, errArbitersClosed
	}
	key := groupKey(q.Cluster, q.Group)
	a := h.all[key]
	if a != nil && slices.Contains(q.Exclude, a.serverID()) {
		if a.status().State != ArbiterFailed {
			return protocol.ArbiterOffer{}, &arbiterRefusal{protocol.ArbiterFailed, "arbiter " + a.serverID() + " is the one here, and the leader does not want it"}
		}
		h.o.Logger.Warn("an arbiter that failed makes way for a new one", "group", q.Group, "arbiter", a.serverID())
		if err := h.discard(a); err != nil {
			return protocol.ArbiterOffer{}, err
		}
		a = nil
	}
	if shares && q.OtherHost && (a == nil || !a.seeded()) {
		return protocol.ArbiterOffer{}, &arbiterRefusal{protocol.ArbiterSharesHost, h.o.Advertise + " holds a data replica of the group, too"}
	}
	if a == nil {
		var err error
		if a, err = h.make(ctx, &q); err != nil {
			return protocol.ArbiterOffer{}, err
		}
		h.all[key] = a
	}
	if a.serverID() == "" {
		return protocol.ArbiterOffer{}, &arbiterRefusal{protocol.ArbiterFailed, "the arbiter is not open: " + a.status().Why}
	}
	return protocol.ArbiterOffer{ServerID: a.serverID(), Address: a.file.address(h.o.Advertise), SharesHost: shares}, nil
}

var errArbitersClosed = errors.New("the name server is going down")

// make opens a new arbiter at the first free port.
func (h *Arbiters) make(ctx context.Context, q *protocol.ArbiterRequest) (*arbiter, error) {
	if len(h.all) >= h.o.Max {
		return nil, &arbiterRefusal{protocol.ArbiterLimit, fmt.Sprintf("%d arbiters are here already", len(h.all))}
	}
	const unit = 4096
	entry := cmp.Or(q.EntryBytesMax, entryBytesDefault)
	if entry < 0 || entry > entryBytesLimit {
		return nil, fmt.Errorf("arbiter: entries of %d bytes", q.EntryBytesMax)
	}
	// A frame is an entry and a little more, and must lie in one segment.
	segment := max(h.o.SegmentBytes, (entry+2*unit-1)/unit*unit)
	f := arbiterFile{Version: arbiterFileVersion, Cluster: q.Cluster, Group: q.Group, Port: h.o.FirstPort, SegmentBytes: segment}
	a := newArbiter(h, filepath.Join(h.dir, arbiterDir(q.Cluster, q.Group)), f)
	err := os.RemoveAll(a.dir) // what a crash has left of an earlier attempt
	if err == nil {
		err = os.Mkdir(a.dir, 0o755)
	}
	if err == nil {
		err = a.found(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("arbiter of group %s: %w", q.Group, err), os.RemoveAll(a.dir))
	}
	a.launch()
	h.o.Logger.Info("an arbiter was made and waits for its group's leader", "cluster", q.Cluster, "group", q.Group, "arbiter", a.serverID(), "port", a.file.Port)
	return a, nil
}

// entryBytesLimit is the largest entry that a log can be set up for.
const entryBytesLimit = 65 << 20

// Has reports whether there is an arbiter that was once seeded by the group's leader.
func (h *Arbiters) Has(cluster, group string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	a := h.all[groupKey(cluster, group)]
	return a != nil && a.seeded()
}

// Forget ends the group's arbiter, if there is one, and removes what it kept.
func (h *Arbiters) Forget(cluster, group string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	a := h.all[groupKey(cluster, group)]
	if a == nil || h.closed {
		return nil
	}
	return h.discard(a)
}

// discard ends an arbiter and removes it. h.mu is held; no Handler of the arbiter's port waits for that.
func (h *Arbiters) discard(a *arbiter) error {
	delete(h.all, groupKey(a.file.Cluster, a.file.Group))
	return errors.Join(removeArbiterFile(a.dir), a.close(), os.RemoveAll(a.dir))
}

// retireAfter is how long the port of an arbiter that was removed stays open: the call that removed it is still to be answered.
const retireAfter = time.Second

// retire removes an arbiter whose leader has said so, and whose Raft has stopped for good. It returns at once.
func (h *Arbiters) retire(a *arbiter) {
	h.tasks.Go(func() {
		h.mu.Lock()
		var err error
		if key := groupKey(a.file.Cluster, a.file.Group); h.all[key] == a {
			delete(h.all, key)
			err = os.RemoveAll(a.dir)
		}
		h.mu.Unlock()
		select {
		case <-h.quit:
		case <-time.After(retireAfter):
		}
		if err := errors.Join(err, a.close()); err != nil {
			h.o.Logger.Error("what an arbiter kept is not removed", "dir", a.dir, "error", err)
		}
	})
}

// Status returns where every arbiter stands, by cluster and group.
func (h *Arbiters) Status() []ArbiterStatus {
	h.mu.Lock()
	defer h.mu.Unlock()
	var list []ArbiterStatus
	for _, a := range h.all {
		list = append(list, a.status())
	}
	slices.SortFunc(list, func(a, b ArbiterStatus) int {
		return cmp.Or(cmp.Compare(a.Cluster, b.Cluster), cmp.Compare(a.Group, b.Group))
	})
	return list
}

// sharesHost reports whether one of the addresses is on this machine.
func (h *Arbiters) sharesHost(addrs []string) bool {
	var own []netip.Addr
	if list, err := net.InterfaceAddrs(); err == nil {
		for _, addr := range list {
			if p, err := netip.ParsePrefix(addr.String()); err == nil {
				own = append(own, p.Addr().Unmap())
			}
		}
	}
	return slices.ContainsFunc(addrs, func(addr string) bool {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return false
		}
		ip, err := netip.ParseAddr(host)
		return host == h.o.Advertise || err == nil && slices.Contains(own, ip.Unmap())
	})
}

// freePort returns the first port from first on that can be listened on, or any if first is 0.
func freePort(ctx context.Context, host string, first int) (int, error) {
	for port := first; ; port++ {
		var c net.ListenConfig
		l, err := c.Listen(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
		if err == nil {
			port = l.Addr().(*net.TCPAddr).Port
			return port, l.Close()
		}
		if port == 0 || port >= 65535 || ctx.Err() != nil {
			return 0, err
		}
	}
}
