package raftlog

import "golang.org/x/sys/unix"

// Sync is fdatasync: it makes data and size durable and skips the time stamps.
func (f osFile) Sync() error {
	for {
		if err := unix.Fdatasync(int(f.Fd())); err != unix.EINTR {
			return err
		}
	}
}

// dropCache makes the next reads come from the disk. Pages that are not written yet stay.
func (f osFile) dropCache() error {
	return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
}
