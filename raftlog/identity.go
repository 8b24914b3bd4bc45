package raftlog

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
)

const (
	nodeFile = "node.json" // who this directory is
	runFile  = "run.json"  // how the last run ended
	lockFile = "lock"

	smallFileMax = 64 << 10
)

// Identity names this replica's directory.
type Identity struct {
	Incarnation string // UUID, made when the directory was created
	ClusterID   string
}

// nodeState is the contents of nodeFile. It is written before anything else in a directory and never lost without a trace: a
// directory with a log and without it is refused (hazard H3: a wiped voter that comes back under its old name loses data).
type nodeState struct {
	Version     int    `json:"version"`
	Incarnation string `json:"incarnation"`
	ClusterID   string `json:"cluster_id"`
	HasLog      bool   `json:"has_log"` // set once a segment exists: from then on its absence is a loss
}

// runState is the contents of runFile: replaced at open, at a change of the flush mode and at a clean stop.
type runState struct {
	BootID string `json:"boot_id"`
	Flush  string `json:"flush"`
	Clean  bool   `json:"clean"` // the log was closed in order ...
	End    int64  `json:"end"`   // ... and ended here
	// MayHaveLost stays set from the open that found a possible loss until the replica is known to be complete again, over any
	// number of restarts in between.
	MayHaveLost bool `json:"may_have_lost"`
}

// newNodeState draws an incarnation.
func newNodeState(clusterID string) nodeState {
	var u [16]byte
	rand.Read(u[:])
	u[6] = u[6]&0x0F | 0x40
	u[8] = u[8]&0x3F | 0x80
	return nodeState{Version: 1, Incarnation: formatUUID(u), ClusterID: clusterID}
}

func formatUUID(u [16]byte) string {
	h := hex.EncodeToString(u[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

func parseUUID(s string) ([16]byte, error) {
	var u [16]byte
	b, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err != nil || len(b) != len(u) || formatUUID([16]byte(b)) != s {
		return u, fmt.Errorf("%q is not a UUID", s)
	}
	return [16]byte(b), nil
}

// loadNode reads nodeFile and judges it against what else is in the directory. fresh is true if the directory is empty and node a
// new identity that is not written yet.
func loadNode(fsys FS, dir, clusterID string, hasLog, hasOther bool) (node nodeState, fresh bool, err error) {
	amnesia := func(format string, args ...any) (nodeState, bool, error) {
		return nodeState{}, false, &Fault{ExitAmnesia, "NODE_AMNESIA", fmt.Errorf(format, args...)}
	}
	path := filepath.Join(dir, nodeFile)
	b, err := readFile(fsys, path, smallFileMax)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if hasLog || hasOther {
			return amnesia("%s holds a log or a vote but no %s: its identity is lost", dir, nodeFile)
		}
		return newNodeState(clusterID), true, nil
	case err != nil:
		return nodeState{}, false, err
	}
	if err := json.Unmarshal(b, &node); err != nil {
		return amnesia("%s: %w", path, err)
	}
	if _, err := parseUUID(node.Incarnation); err != nil {
		return amnesia("%s: incarnation: %w", path, err)
	}
	switch {
	case node.Version != 1:
		return nodeState{}, false, &Fault{ExitConfigMismatch, "CONFIG_MISMATCH", fmt.Errorf("%s: version is %d, this program knows 1", path, node.Version)}
	case clusterID != "" && node.ClusterID != clusterID:
		return nodeState{}, false, &Fault{ExitConfigMismatch, "CONFIG_MISMATCH", fmt.Errorf("%s: directory belongs to cluster %q, configured is %q", path, node.ClusterID, clusterID)}
	case node.HasLog && !hasLog:
		return amnesia("%s: the log of node %s is gone", dir, node.Incarnation)
	}
	return node, false, nil
}

func saveNode(fsys FS, dir string, node nodeState) error {
	return saveJSON(fsys, dir, nodeFile, node)
}

// loadRun returns the zero value if there is no readable runFile: an unclean stop on another boot.
func loadRun(fsys FS, dir string) runState {
	var run runState
	b, err := readFile(fsys, filepath.Join(dir, runFile), smallFileMax)
	if err != nil || json.Unmarshal(b, &run) != nil {
		return runState{}
	}
	return run
}

func saveJSON(fsys FS, dir, name string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err == nil {
		err = replaceFile(fsys, dir, filepath.Join(dir, name), append(b, '\n'))
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", filepath.Join(dir, name), err)
	}
	return nil
}
