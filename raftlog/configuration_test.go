package raftlog

import (
	"path/filepath"
	"sync"
	"testing"
)

// The group's members may be asked for while the log is being started: another replica's question does not wait.
func TestConfigurationWhileStarting(t *testing.T) {
	dir := t.TempDir()
	startSolo(t, dir, Options{}).close()
	l, err := Open(filepath.Join(dir, "log"), Options{Logger: discardLogger()})
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var asking sync.WaitGroup
	asking.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if c, err := l.Configuration(); err != nil || len(c.Servers) != 1 {
				t.Errorf("%v %v", c, err)
				return
			}
		}
	})
	n, err := lead(t, dir, l)
	close(stop)
	asking.Wait()
	if err != nil {
		t.Fatal(err)
	}
	n.close()
}
