package controller

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"rmq/raftlog"
)

// Export is a checkpoint of the state machine that stays as it is until it is closed.
type Export struct {
	Applied int64 // everything below this offset is in it
	Files   []FillFile
	ReadAt  func(name string, p []byte, off int64) (int, error)
	Close   func() error
}

// LogSink takes the raw bytes of a log. *raftlog.Seeder is one.
type LogSink interface {
	Have() int64 // offset of the next byte that is wanted
	Write(b []byte) error
	Commit() error
	Close() error
}

// FileSink takes the files of a checkpoint.
type FileSink interface {
	Have(name string) int64
	WriteAt(name string, b []byte, off int64) error
	Commit() error
	Close() error
}

// Sink opens the directory of a replica for being filled. It closes whatever uses the directory, and resumes what an earlier fill
// has left if that fits o.
type Sink func(o FillOffer) (LogSink, FileSink, error)

const (
	fillChunkBytes = 1 << 20
	fillIdle       = 2 * time.Minute // without a read, after which a fill is given up
	fillsMax       = 4               // at a time
	fillRetry      = 200 * time.Millisecond
)

// fills are the directories that this replica, the leader, fills.
type fills struct {
	log    Log
	export func() (Export, error)
	rate   *rate

	opening sync.Mutex // taken before mu

	mu   sync.Mutex
	last uint64
	all  map[string]*fill // by server id
}

// fill is one of them.
type fill struct {
	offer   FillOffer
	export  Export
	release func()
	at      time.Time // of the last read
	read    int64     // bytes
	total   int64
	done    bool
}

func newFills(log Log, export func() (Export, error), bytesPerSecond int64) *fills {
	return &fills{log: log, export: export, rate: newRate(bytesPerSecond), all: make(map[string]*fill)}
}

// begin makes an offer to a server, or repeats the one that it has.
func (s *fills) begin(r FillRequest, now time.Time) (FillOffer, error) {
	if s.export == nil {
		return FillOffer{}, refuse(CodeRefused, "this replica cannot fill another one")
	}
	s.opening.Lock() // one at a time; s.mu is not held over the disk's work
	defer s.opening.Unlock()
	s.mu.Lock()
	f, n := s.all[r.ServerID], len(s.all)
	if f != nil && !r.Anew {
		f.at, f.done = now, false
		s.mu.Unlock()
		return f.offer, nil
	}
	if f != nil {
		s.end(r.ServerID, f)
		n--
	}
	s.mu.Unlock()
	if n >= fillsMax {
		return FillOffer{}, refuse(CodeNotNow, "%d replicas are being filled already", n)
	}
	f, err := s.open()
	if err != nil {
		return FillOffer{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last++
	f.at, f.offer.Fill = now, fmt.Sprintf("%s/%d", r.ServerID, s.last)
	s.all[r.ServerID] = f
	return f.offer, nil
}

// open pins what is to be copied: first the bytes of the log, then the newest checkpoint, then the point that it belongs to.
func (s *fills) open() (*fill, error) {
	f := &fill{release: s.log.Lease()}
	err := s.log.Snapshot()
	if err == nil {
		f.export, err = s.export()
	}
	if err != nil {
		f.release()
		return nil, err
	}
	point, err := s.log.FillPoint(f.export.Applied)
	if err != nil {
		f.release()
		return nil, errors.Join(err, f.export.Close())
	}
	f.total = point.End - point.Min
	for _, file := range f.export.Files {
		f.total += file.Size
	}
	f.offer = FillOffer{Point: point, Applied: f.export.Applied, Files: f.export.Files, ChunkBytes: fillChunkBytes}
	return f, nil
}

// end gives a fill up; s.mu is held.
func (s *fills) end(id string, f *fill) {
	f.release()
	f.export.Close() //nolint:errcheck // it was only read
	delete(s.all, id)
}

func (s *fills) find(name string) (*fill, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.all {
		if f.offer.Fill == name {
			return f, nil
		}
	}
	return nil, refuse(CodeRefused, "there is no fill %q here", name)
}

// read returns bytes of a fill, as many as the rate allows within ctx.
func (s *fills) read(ctx context.Context, r FillRead) ([]byte, error) {
	f, err := s.find(r.Fill)
	if err != nil {
		return nil, err
	}
	end := f.offer.Point.End
	if r.File != "" {
		i := slices.IndexFunc(f.offer.Files, func(file FillFile) bool { return file.Name == r.File })
		if i < 0 {
			return nil, refuse(CodeRefused, "there is no file %q in this fill", r.File)
		}
		end = f.offer.Files[i].Size
	}
	if r.Offset < 0 || r.Offset >= end || r.File == "" && r.Offset < f.offer.Point.Min || r.Size < 1 {
		return nil, refuse(CodeRefused, "%d bytes at %d are not in this fill", r.Size, r.Offset)
	}
	n, err := s.rate.take(ctx, int(min(int64(r.Size), fillChunkBytes, end-r.Offset)))
	if err != nil {
		return nil, err
	}
	b := make([]byte, n)
	if r.File == "" {
		n, err = s.log.ReadAt(b, r.Offset)
	} else {
		n, err = f.export.ReadAt(r.File, b, r.Offset)
	}
	if n < len(b) && err == nil {
		err = io.ErrUnexpectedEOF
	}
	if n == len(b) && errors.Is(err, io.EOF) {
		err = nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading what another replica is filled with: %w", err)
	}
	s.mu.Lock()
	f.at = time.Now()
	f.read += int64(n)
	s.mu.Unlock()
	return b, nil
}

// finish notes that a server is filled, or gives up. The bytes are kept until it has joined: see sweep.
func (s *fills) finish(r FillEnd, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, f := range s.all {
		switch {
		case f.offer.Fill != r.Fill:
		case r.Done:
			f.done, f.at = true, now
		default:
			s.end(id, f)
		}
	}
}

// sweep ends what nobody reads any more, and what is no longer needed: holds says what a server has by now.
func (s *fills) sweep(now time.Time, holds func(serverID string) uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, f := range s.all {
		if now.Sub(f.at) > fillIdle || f.done && holds(id) >= f.offer.Point.EndIndex {
			s.end(id, f)
		}
	}
}

// floor is the lowest offset that is being copied.
func (s *fills) floor() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	floor := int64(noLimit)
	for _, f := range s.all {
		floor = min(floor, f.offer.Point.Min)
	}
	return floor
}

// progress returns how far the fills are that are not done, by server id.
func (s *fills) progress() map[string][2]int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make(map[string][2]int64)
	for id, f := range s.all {
		if !f.done {
			all[id] = [2]int64{min(f.read, f.total), f.total}
		}
	}
	return all
}

// close ends all fills: this replica leads no more. Their receivers go on with the next leader, who has the same bytes.
func (s *fills) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, f := range s.all {
		s.end(id, f)
	}
}

// receive fills a directory with what the leader at addr offers. It goes on where an earlier attempt has stopped.
func receive(ctx context.Context, o *Options, serverID, addr string, anew bool) error {
	var offer FillOffer
	begin, cancel := context.WithTimeout(ctx, fillBeginTimeout)
	_, err := askRaw(begin, o.Net, addr, CallFillBegin, FillRequest{ServerID: serverID, Anew: anew}, &offer)
	cancel()
	if err != nil {
		return err
	}
	if offer.ChunkBytes < 1 || offer.ChunkBytes > fillChunkBytes {
		return fmt.Errorf("%s offers a fill in chunks of %d bytes", addr, offer.ChunkBytes)
	}
	log, files, err := o.Sink(offer)
	if err != nil {
		return fmt.Errorf("fill the directory: %w", err)
	}
	r := &receiver{o: o, addr: addr, offer: &offer, said: time.Now()}
	err = r.run(ctx, log, files)
	err = errors.Join(err, log.Close(), files.Close())
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	if err == nil {
		// Not being heard costs the leader some disk space for a while.
		if err := Ask(end, o.Net, addr, CallFillEnd, FillEnd{Fill: offer.Fill, Done: true}, nil); err != nil {
			o.Logger.Info("the leader does not know that the fill is done", "group", o.Name, "error", err)
		}
	}
	return err
}

const (
	fillBeginTimeout = 30 * time.Second // the leader takes a snapshot meanwhile
	fillReadTimeout  = 10 * time.Second
	fillSayEvery     = 10 * time.Second
)

// receiver copies an offer into sinks.
type receiver struct {
	o     *Options
	addr  string
	offer *FillOffer
	said  time.Time
}

func (r *receiver) run(ctx context.Context, log LogSink, files FileSink) error {
	p := &r.offer.Point
	r.o.Logger.Info("this replica is being filled", "group", r.o.Name, "from", r.addr, "files", len(r.offer.Files), "min", p.Min, "have", log.Have(), "end", p.End)
	for _, f := range r.offer.Files {
		for have := files.Have(f.Name); have < f.Size; {
			b, err := r.read(ctx, FillRead{File: f.Name, Offset: have, Size: r.offer.ChunkBytes})
			if err != nil {
				return err
			}
			if err := files.WriteAt(f.Name, b, have); err != nil {
				return err
			}
			have += int64(len(b))
		}
	}
	for log.Have() < p.End {
		b, err := r.read(ctx, FillRead{Offset: log.Have(), Size: int(min(int64(r.offer.ChunkBytes), p.End-log.Have()))})
		if err != nil {
			return err
		}
		if err := log.Write(b); err != nil {
			return err
		}
		if now := time.Now(); now.Sub(r.said) > fillSayEvery {
			r.said = now
			r.o.Logger.Info("this replica is being filled", "group", r.o.Name, "min", p.Min, "have", log.Have(), "end", p.End)
		}
	}
	// The state first: a log that is complete must find its state.
	if err := files.Commit(); err != nil {
		return err
	}
	return log.Commit()
}

func (r *receiver) read(ctx context.Context, what FillRead) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, fillReadTimeout)
	defer cancel()
	what.Fill = r.offer.Fill
	b, err := askRaw(ctx, r.o.Net, r.addr, CallFillRead, what, nil)
	if err == nil && (len(b) == 0 || len(b) > what.Size) {
		err = fmt.Errorf("%s answers %d bytes to a question for %d", r.addr, len(b), what.Size)
	}
	return b, err
}

// rate bounds bytes per second.
type rate struct {
	perSecond int64 // 0: no bound

	mu   sync.Mutex
	free time.Time // when what was taken is paid for
}

func newRate(perSecond int64) *rate { return &rate{perSecond: max(perSecond, 0)} }

// take waits until some of want bytes may go, and returns how many.
func (r *rate) take(ctx context.Context, want int) (int, error) {
	if r.perSecond == 0 {
		return want, nil
	}
	n := int(min(int64(want), max(r.perSecond/4, 1)))
	r.mu.Lock()
	now := time.Now()
	at := r.free
	if at.Before(now) {
		at = now
	}
	r.free = at.Add(time.Duration(float64(n) / float64(r.perSecond) * float64(time.Second)))
	r.mu.Unlock()
	if wait := at.Sub(now); wait > 0 {
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(wait):
		}
	}
	return n, nil
}

var (
	_ LogSink = (*raftlog.Seeder)(nil)
	_ Log     = (*raftlog.Log)(nil)
	_ Net     = (*raftlog.PeerNet)(nil)
)
