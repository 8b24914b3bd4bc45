//go:build !linux

package raftlog

// Sync is fsync where there is no fdatasync.
func (f osFile) Sync() error { return f.File.Sync() }
