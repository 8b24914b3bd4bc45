// Package crashfs is a file system in memory that can crash and fail. CrashClone returns what a machine could find after a power
// cut: data and directory entries that were not synced are lost at random from a seed, in sectors of 512 bytes and in any order a
// disk may choose. Inject makes chosen operations fail or hang. It fits the FS interfaces of packages raftlog and store.
package crashfs

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"sync"
)

// File is the shape of an open file that raftlog and store ask for.
type File = interface {
	io.ReaderAt
	io.WriterAt
	Truncate(size int64) error
	Sync() error
	Size() (int64, error)
	io.Closer
}

// ErrInjected is the failure of an operation chosen by Inject.
var ErrInjected = errors.New("crashfs: injected failure")

// FS is one file system. All methods may be called by any goroutine.
type FS struct {
	mu    sync.Mutex
	dirs  map[string]*dir
	rules []*rule
	hook  func(Op)
	ops   uint64
}

// Op is one operation that changes the disk or makes a change durable.
type Op struct {
	Seq  uint64 // counts from 1
	Kind string // create, write, truncate, sync, rename, remove, mkdir, syncdir
	Path string
}

// dir is a directory: names as they are and the changes that SyncDir has not made durable yet.
type dir struct {
	now     map[string]*inode
	synced  map[string]*inode
	changes []change
}

// change is one unsynced change of a directory. A rename is one change: no crash halves it.
type change struct {
	name string
	to   *inode // nil: removed
	from string // rename: the name that goes away
}

// inode is a file, or a directory if dir is set.
type inode struct {
	dir    *dir
	data   []byte
	synced []byte
	writes []write // since the last Sync, in order
}

// write is one unsynced change of a file's contents.
type write struct {
	off      int64
	data     []byte
	truncate bool // the size becomes off
}

// New returns an empty file system.
func New() *FS {
	return &FS{dirs: map[string]*dir{"/": newDir()}}
}

func newDir() *dir { return &dir{now: map[string]*inode{}, synced: map[string]*inode{}} }

// OnOp sets a function that is called before every operation, outside all locks. It may call CrashClone or block.
func (f *FS) OnOp(hook func(Op)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hook = hook
}

// Ops returns how many operations there were.
func (f *FS) Ops() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ops
}

// before counts an operation, runs the hook and applies the injected faults.
func (f *FS) before(kind, name string) error {
	f.mu.Lock()
	f.ops++
	op := Op{Seq: f.ops, Kind: kind, Path: name}
	hook := f.hook
	r := f.matchLocked(op)
	f.mu.Unlock()
	if hook != nil {
		hook(op)
	}
	if r == nil {
		return nil
	}
	if r.hang != nil {
		<-r.hang
	}
	if r.fail {
		return &fs.PathError{Op: kind, Path: name, Err: ErrInjected}
	}
	return nil
}

// clean makes every name absolute: there is no working directory.
func clean(name string) string { return path.Join("/", name) }

// parent returns the directory that holds name, which is clean.
func (f *FS) parent(op, name string) (*dir, string, error) {
	d := f.dirs[path.Dir(name)]
	if d == nil {
		return nil, "", &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
	}
	return d, path.Base(name), nil
}

// Create makes an empty file, or empties an existing one.
func (f *FS) Create(name string) (File, error) {
	name = clean(name)
	if err := f.before("create", name); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	d, base, err := f.parent("create", name)
	if err != nil {
		return nil, err
	}
	ino := d.now[base]
	switch {
	case ino != nil && ino.dir != nil:
		return nil, &fs.PathError{Op: "create", Path: name, Err: errors.New("is a directory")}
	case ino != nil:
		ino.apply(write{truncate: true})
	default:
		ino = &inode{}
		d.set(change{name: base, to: ino})
	}
	return &handle{fs: f, ino: ino, name: name}, nil
}

// Open opens an existing file.
func (f *FS) Open(name string) (File, error) {
	name = clean(name)
	f.mu.Lock()
	defer f.mu.Unlock()
	d, base, err := f.parent("open", name)
	if err != nil {
		return nil, err
	}
	ino := d.now[base]
	if ino == nil || ino.dir != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return &handle{fs: f, ino: ino, name: name}, nil
}

// Rename replaces newName; both names are in one directory.
func (f *FS) Rename(oldName, newName string) error {
	oldName, newName = clean(oldName), clean(newName)
	if err := f.before("rename", newName); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	d, from, err := f.parent("rename", oldName)
	if err != nil {
		return err
	}
	if path.Dir(oldName) != path.Dir(newName) {
		return &fs.PathError{Op: "rename", Path: newName, Err: errors.New("crosses directories")}
	}
	ino := d.now[from]
	if ino == nil {
		return &fs.PathError{Op: "rename", Path: oldName, Err: fs.ErrNotExist}
	}
	d.set(change{name: path.Base(newName), to: ino, from: from})
	return nil
}

// Remove removes a file or an empty directory.
func (f *FS) Remove(name string) error {
	name = clean(name)
	if err := f.before("remove", name); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	d, base, err := f.parent("remove", name)
	if err != nil {
		return err
	}
	ino := d.now[base]
	if ino == nil {
		return &fs.PathError{Op: "remove", Path: name, Err: fs.ErrNotExist}
	}
	if ino.dir != nil {
		if len(ino.dir.now) > 0 {
			return &fs.PathError{Op: "remove", Path: name, Err: errors.New("directory is not empty")}
		}
		delete(f.dirs, name)
	}
	d.set(change{name: base})
	return nil
}

// MkdirAll makes a directory and those above it.
func (f *FS) MkdirAll(name string) error {
	name = clean(name)
	f.mu.Lock()
	have := f.dirs[name] != nil
	f.mu.Unlock()
	if have {
		return nil
	}
	if err := f.MkdirAll(path.Dir(name)); err != nil {
		return err
	}
	if err := f.before("mkdir", name); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	d, base, err := f.parent("mkdir", name)
	if err != nil {
		return err
	}
	if d.now[base] != nil {
		if d.now[base].dir == nil {
			return &fs.PathError{Op: "mkdir", Path: name, Err: fs.ErrExist}
		}
		return nil
	}
	ino := &inode{dir: newDir()}
	d.set(change{name: base, to: ino})
	f.dirs[name] = ino.dir
	return nil
}

// SyncDir makes the names in a directory durable.
func (f *FS) SyncDir(name string) error {
	name = clean(name)
	if err := f.before("syncdir", name); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	d := f.dirs[name]
	if d == nil {
		return &fs.PathError{Op: "syncdir", Path: name, Err: fs.ErrNotExist}
	}
	d.synced = maps.Clone(d.now)
	d.changes = nil
	return nil
}

// List returns the names in a directory in lexical order.
func (f *FS) List(name string) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	d := f.dirs[clean(name)]
	if d == nil {
		return nil, &fs.PathError{Op: "list", Path: name, Err: fs.ErrNotExist}
	}
	return slices.Sorted(maps.Keys(d.now)), nil
}

// Mutate replaces the contents of a file, durably and unseen by the rules: damage to a disk at rest.
func (f *FS) Mutate(name string, edit func(data []byte) []byte) error {
	name = clean(name)
	f.mu.Lock()
	defer f.mu.Unlock()
	d, base, err := f.parent("mutate", name)
	if err != nil {
		return err
	}
	ino := d.now[base]
	if ino == nil || ino.dir != nil {
		return &fs.PathError{Op: "mutate", Path: name, Err: fs.ErrNotExist}
	}
	ino.data = edit(slices.Clone(ino.data))
	ino.synced, ino.writes = slices.Clone(ino.data), nil
	return nil
}

// Dump returns the contents of every file by name.
func (f *FS) Dump() map[string]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make(map[string]string)
	for dirName, d := range f.dirs {
		for name, ino := range d.now {
			if ino.dir == nil {
				out[path.Join(dirName, name)] = string(ino.data)
			}
		}
	}
	return out
}

// set applies a change to the names as they are and remembers it.
func (d *dir) set(c change) {
	apply(d.now, c)
	d.changes = append(d.changes, c)
}

func apply(names map[string]*inode, c change) {
	if c.from != "" {
		if names[c.from] != c.to {
			return // the change it builds on was lost
		}
		delete(names, c.from)
	}
	if c.to == nil {
		delete(names, c.name)
		return
	}
	names[c.name] = c.to
}

// apply changes the contents as they are and remembers the change.
func (ino *inode) apply(w write) {
	ino.data = w.on(ino.data)
	ino.writes = append(ino.writes, w)
}

// on returns data after w.
func (w write) on(data []byte) []byte {
	end := w.off + int64(len(w.data))
	if w.truncate {
		end = w.off
		if end <= int64(len(data)) {
			return data[:end:end]
		}
	}
	if end > int64(len(data)) {
		data = append(data, make([]byte, end-int64(len(data)))...)
	}
	copy(data[w.off:], w.data)
	return data
}

// CrashClone returns an independent copy as a power cut at this moment could have left it. Equal seeds on equal contents give equal
// copies. The copy has no hook and no rules.
func (f *FS) CrashClone(seed uint64) *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	rng := rand.New(rand.NewPCG(seed, 0x63726173))
	return f.clone(func(d *dir) map[string]*inode { return d.crash(rng) }, func(ino *inode) []byte { return ino.crash(rng) })
}

// Clone returns an independent copy as the end of the process alone would leave it: nothing is lost, and all of it is synced.
func (f *FS) Clone() *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.clone(func(d *dir) map[string]*inode { return d.now }, func(ino *inode) []byte { return ino.data })
}

func (f *FS) clone(names func(*dir) map[string]*inode, contents func(*inode) []byte) *FS {
	out := New()
	var walk func(from, to *dir, at string)
	walk = func(from, to *dir, at string) {
		left := names(from)
		for _, name := range slices.Sorted(maps.Keys(left)) {
			ino := left[name]
			cp := &inode{}
			if ino.dir != nil {
				cp.dir = newDir()
				full := path.Join(at, name)
				out.dirs[full] = cp.dir
				walk(ino.dir, cp.dir, full)
			} else {
				cp.data = slices.Clone(contents(ino))
				cp.synced = slices.Clone(cp.data)
			}
			to.now[name], to.synced[name] = cp, cp
		}
	}
	walk(f.dirs["/"], out.dirs["/"], "/")
	return out
}

// crash draws the names that survive: half the time a prefix of the unsynced changes, as a journal leaves them, else any subset.
func (d *dir) crash(rng *rand.Rand) map[string]*inode {
	names := maps.Clone(d.synced)
	if rng.IntN(2) == 0 {
		for _, c := range d.changes[:rng.IntN(len(d.changes)+1)] {
			apply(names, c)
		}
		return names
	}
	for _, c := range d.changes {
		if rng.IntN(2) == 0 {
			apply(names, c)
		}
	}
	return names
}

const sector = 512

// crash draws the contents that survive: a prefix of the unsynced writes, or each sector as some prefix of them left it.
func (ino *inode) crash(rng *rand.Rand) []byte {
	if len(ino.writes) == 0 {
		return ino.data
	}
	if rng.IntN(3) == 0 {
		return replay(ino.synced, ino.writes[:rng.IntN(len(ino.writes)+1)])
	}
	sized := replay(ino.synced, ino.writes[:rng.IntN(len(ino.writes)+1)])
	size := len(sized)
	if last := len(ino.synced); size > last && rng.IntN(2) == 0 {
		size = last + rng.IntN(size-last+1)
	}
	out := make([]byte, size)
	for at := 0; at < size; at += sector {
		end := min(at+sector, size)
		n := rng.IntN(len(ino.writes) + 1)
		if rng.IntN(2) == 0 {
			n = len(ino.writes)
		}
		copySector(out[at:end], ino.synced, at)
		for _, w := range ino.writes[:n] {
			w.onSector(out[at:end], at)
		}
	}
	return out
}

func replay(synced []byte, writes []write) []byte {
	data := slices.Clone(synced)
	for _, w := range writes {
		data = w.on(data)
	}
	return data
}

func copySector(dst, src []byte, at int) {
	if at < len(src) {
		copy(dst, src[at:])
	}
}

// onSector applies the part of w that falls into the sector at position at.
func (w write) onSector(b []byte, at int) {
	if w.truncate {
		if from := int(w.off) - at; from < len(b) {
			clear(b[max(from, 0):])
		}
		return
	}
	lo, hi := max(int(w.off), at), min(int(w.off)+len(w.data), at+len(b))
	if lo < hi {
		copy(b[lo-at:hi-at], w.data[lo-int(w.off):])
	}
}

// handle is an open file.
type handle struct {
	fs   *FS
	ino  *inode
	name string

	closed bool
}

func (h *handle) check(op string) error {
	if h.closed {
		return &fs.PathError{Op: op, Path: h.name, Err: fs.ErrClosed}
	}
	return nil
}

func (h *handle) ReadAt(p []byte, off int64) (int, error) {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if err := h.check("read"); err != nil {
		return 0, err
	}
	if off < 0 {
		return 0, &fs.PathError{Op: "read", Path: h.name, Err: fs.ErrInvalid}
	}
	if off >= int64(len(h.ino.data)) {
		return 0, io.EOF
	}
	n := copy(p, h.ino.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (h *handle) WriteAt(p []byte, off int64) (int, error) {
	if err := h.fs.before("write", h.name); err != nil {
		return 0, err
	}
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if err := h.check("write"); err != nil {
		return 0, err
	}
	if off < 0 {
		return 0, &fs.PathError{Op: "write", Path: h.name, Err: fs.ErrInvalid}
	}
	h.ino.apply(write{off: off, data: slices.Clone(p)})
	return len(p), nil
}

func (h *handle) Truncate(size int64) error {
	if err := h.fs.before("truncate", h.name); err != nil {
		return err
	}
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if err := h.check("truncate"); err != nil {
		return err
	}
	if size < 0 {
		return &fs.PathError{Op: "truncate", Path: h.name, Err: fs.ErrInvalid}
	}
	h.ino.apply(write{off: size, truncate: true})
	return nil
}

func (h *handle) Sync() error {
	if err := h.fs.before("sync", h.name); err != nil {
		return err
	}
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if err := h.check("sync"); err != nil {
		return err
	}
	for _, w := range h.ino.writes {
		h.ino.synced = w.on(h.ino.synced)
	}
	h.ino.writes = nil
	return nil
}

func (h *handle) Size() (int64, error) {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	return int64(len(h.ino.data)), h.check("size")
}

func (h *handle) Close() error {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if err := h.check("close"); err != nil {
		return err
	}
	h.closed = true
	return nil
}
