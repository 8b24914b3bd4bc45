package store

import (
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"sort"
	"sync"
)

// memFS is a file system in memory that can crash: crash returns what a power cut could have left, with unsynced bytes and
// names lost or kept by chance.
type memFS struct {
	mu      sync.Mutex
	names   map[string]*memInode // as seen now
	durable map[string]*memInode // as of the last SyncDir

	failMu sync.Mutex
	fail   func(op, name string) error
}

type memInode struct {
	mu     sync.Mutex
	data   []byte
	synced []byte
}

func newMemFS() *memFS {
	return &memFS{names: make(map[string]*memInode), durable: make(map[string]*memInode)}
}

// failWith asks fail before each change: an error is what the change gives.
func (m *memFS) failWith(fail func(op, name string) error) {
	m.failMu.Lock()
	defer m.failMu.Unlock()
	m.fail = fail
}

func (m *memFS) check(op, name string) error {
	m.failMu.Lock()
	defer m.failMu.Unlock()
	if m.fail == nil {
		return nil
	}
	return m.fail(op, name)
}

func (m *memFS) Create(name string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.check("create", name); err != nil {
		return nil, err
	}
	n := m.names[name]
	if n == nil {
		n = &memInode{}
		m.names[name] = n
	}
	n.mu.Lock()
	n.data = nil
	n.mu.Unlock()
	return &memFile{fs: m, name: name, inode: n}, nil
}

func (m *memFS) Open(name string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.names[name]
	if n == nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return &memFile{fs: m, name: name, inode: n}, nil
}

func (m *memFS) Rename(oldName, newName string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.check("rename", newName); err != nil {
		return err
	}
	n := m.names[oldName]
	if n == nil {
		return &fs.PathError{Op: "rename", Path: oldName, Err: fs.ErrNotExist}
	}
	delete(m.names, oldName)
	m.names[newName] = n
	return nil
}

func (m *memFS) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.names[name] == nil {
		return &fs.PathError{Op: "remove", Path: name, Err: fs.ErrNotExist}
	}
	delete(m.names, name)
	return nil
}

func (m *memFS) MkdirAll(string) error { return nil }

func (m *memFS) SyncDir(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.check("syncdir", dir); err != nil {
		return err
	}
	for name := range m.durable {
		if filepath.Dir(name) == dir {
			delete(m.durable, name)
		}
	}
	for name, n := range m.names {
		if filepath.Dir(name) == dir {
			m.durable[name] = n
		}
	}
	return nil
}

func (m *memFS) List(dir string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []string
	for name := range m.names {
		if filepath.Dir(name) == dir {
			out = append(out, filepath.Base(name))
		}
	}
	sort.Strings(out)
	return out, nil
}

// crash returns the file system after a power cut. Each name is as it was at the last SyncDir or as it is now; each file has
// its synced bytes, with any of the later ones.
func (m *memFS) crash(rnd *rand.Rand) *memFS {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := newMemFS()
	all := make(map[string]bool)
	for name := range m.names {
		all[name] = true
	}
	for name := range m.durable {
		all[name] = true
	}
	for _, name := range sortedKeys(all) {
		n := m.durable[name]
		if m.names[name] != n && rnd.IntN(2) == 0 {
			n = m.names[name]
		}
		if n == nil {
			continue
		}
		n.mu.Lock()
		data := append([]byte(nil), n.synced...)
		if rnd.IntN(2) == 0 {
			// Pages written since may have reached the disk each on its own.
			if len(n.data) > len(data) {
				data = append(data, make([]byte, rnd.IntN(len(n.data)-len(data)+1))...)
			}
			for at := 0; at < min(len(data), len(n.data)); at += 512 {
				if rnd.IntN(2) == 0 {
					copy(data[at:min(at+512, len(data))], n.data[at:])
				}
			}
		}
		n.mu.Unlock()
		c := &memInode{data: data, synced: append([]byte(nil), data...)}
		out.names[name], out.durable[name] = c, c
	}
	return out
}

// clone returns an exact copy, as after a killed process.
func (m *memFS) clone() *memFS {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := newMemFS()
	for name, n := range m.names {
		n.mu.Lock()
		c := &memInode{data: append([]byte(nil), n.data...)}
		n.mu.Unlock()
		c.synced = append([]byte(nil), c.data...)
		out.names[name], out.durable[name] = c, c
	}
	return out
}

// files returns the names that begin with a prefix.
func (m *memFS) files(dir, prefix string) []string {
	names, _ := m.List(dir)
	var out []string
	for _, n := range names {
		if len(n) >= len(prefix) && n[:len(prefix)] == prefix {
			out = append(out, filepath.Join(dir, n))
		}
	}
	return out
}

// damage changes a file's bytes.
func (m *memFS) damage(name string, change func(b []byte) []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.names[name]
	if n == nil {
		panic(fmt.Sprintf("no file %s", name))
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.data = change(n.data)
	n.synced = append([]byte(nil), n.data...)
}

type memFile struct {
	fs     *memFS
	name   string
	inode  *memInode
	mu     sync.Mutex
	closed bool
}

func (f *memFile) use() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return fs.ErrClosed
	}
	return nil
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.use(); err != nil {
		return 0, err
	}
	f.inode.mu.Lock()
	defer f.inode.mu.Unlock()
	if off >= int64(len(f.inode.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.inode.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.use(); err != nil {
		return 0, err
	}
	if err := f.fs.check("write", f.name); err != nil {
		return 0, err
	}
	f.inode.mu.Lock()
	defer f.inode.mu.Unlock()
	if grow := off + int64(len(p)) - int64(len(f.inode.data)); grow > 0 {
		f.inode.data = append(f.inode.data, make([]byte, grow)...)
	}
	return copy(f.inode.data[off:], p), nil
}

func (f *memFile) Truncate(size int64) error {
	f.inode.mu.Lock()
	defer f.inode.mu.Unlock()
	if grow := size - int64(len(f.inode.data)); grow > 0 {
		f.inode.data = append(f.inode.data, make([]byte, grow)...)
	}
	f.inode.data = f.inode.data[:size]
	return nil
}

func (f *memFile) Sync() error {
	if err := f.use(); err != nil {
		return err
	}
	if err := f.fs.check("sync", f.name); err != nil {
		return err
	}
	f.inode.mu.Lock()
	defer f.inode.mu.Unlock()
	f.inode.synced = append(f.inode.synced[:0:0], f.inode.data...)
	return nil
}

func (f *memFile) Size() (int64, error) {
	f.inode.mu.Lock()
	defer f.inode.mu.Unlock()
	return int64(len(f.inode.data)), nil
}

func (f *memFile) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	return nil
}
