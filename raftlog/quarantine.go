package raftlog

import (
	"fmt"
	"path/filepath"
)

const (
	quarantineDir   = "quarantine"
	quarantineFiles = 16 // the oldest go when there are more
)

// quarantine copies the bytes that a truncation is about to remove, from the frame of an entry of term on, to a file of their own:
// under AckAppended their producers have been answered. A failure costs the copy and nothing else: the group goes on.
func (l *Log) quarantine(from, to int64, term uint64) {
	if l.o.QuarantineBytesMax < 0 {
		return
	}
	path, n, err := l.writeQuarantine(from, min(to, from+l.o.QuarantineBytesMax), term)
	if err != nil {
		l.log.Error("bytes that are cut off could not be copied", "from_offset", from, "end", to, "error", err)
		return
	}
	l.stats.quarantined.Add(uint64(n))
	l.log.Warn("bytes that are cut off are kept", "path", path, "from_offset", from, "bytes", n, "term", term, "cut", to-from)
}

func (l *Log) writeQuarantine(from, to int64, term uint64) (path string, n int64, err error) {
	dir := filepath.Join(l.dir, quarantineDir)
	if err := makeDir(l.fs, dir); err != nil {
		return "", 0, err
	}
	seq, err := l.makeRoom(dir, to-from)
	if err != nil {
		return "", 0, err
	}
	path = filepath.Join(dir, fmt.Sprintf("%06d-%020d-%d", seq+1, from, term))
	op := l.watch.begin("write", path)
	defer l.watch.end(op)
	f, err := l.fs.Create(path)
	if err != nil {
		return "", 0, err
	}
	buf := make([]byte, scanBufferBytes)
	for off := from; off < to && err == nil; {
		var n int
		if n, err = l.readRaw(buf[:min(int64(len(buf)), to-off)], off); err == nil {
			_, err = f.WriteAt(buf[:n], off-from)
		}
		off += int64(n)
	}
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		return "", 0, fmt.Errorf("write %s: %w", path, joinClose(err, f))
	}
	if err := f.Close(); err != nil {
		return "", 0, err
	}
	return path, to - from, l.fs.SyncDir(dir)
}

// makeRoom removes the oldest files until another one of size bytes is within the limits, and returns the highest number given out.
func (l *Log) makeRoom(dir string, size int64) (seq int, err error) {
	names, err := l.fs.List(dir)
	if err != nil {
		return 0, err
	}
	sizes := make([]int64, len(names))
	total := size
	for i, name := range names {
		if sizes[i], err = fileSize(l.fs, filepath.Join(dir, name)); err != nil {
			return 0, err
		}
		total += sizes[i]
		if _, err := fmt.Sscanf(name, "%d-", &seq); err != nil {
			return 0, fmt.Errorf("%s in %s: %w", name, dir, err)
		}
	}
	for i, name := range names {
		if len(names)-i < quarantineFiles && total <= l.o.QuarantineBytesMax {
			break
		}
		if err := l.fs.Remove(filepath.Join(dir, name)); err != nil {
			return 0, err
		}
		total -= sizes[i]
		l.log.Warn("older bytes that were cut off are given up", "name", name, "bytes", sizes[i])
	}
	return seq, nil
}

func fileSize(fsys FS, name string) (int64, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return 0, err
	}
	size, err := f.Size()
	if err != nil {
		return 0, joinClose(err, f)
	}
	return size, f.Close()
}
