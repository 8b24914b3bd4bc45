package cluster

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"rmq/store/message"
)

// Record is a message as it is stored.
type Record struct {
	ID
	Known    bool // its body is what was sent under ID, and its CRC holds
	Queue    int32
	Offset   int64
	Physical int64 // where it says that it lies in the log
}

func recordOf(run string, v message.View) Record {
	id, known := parseBody(run, v.Body())
	return Record{ID: id, Known: known && v.BodyCRCValid(), Queue: v.QueueID(), Offset: v.QueueOffset(), Physical: v.PhysicalOffset()}
}

// Replica is what the log files of one replica hold. It is read here by the words of raftlog/FORMAT.md, not by the
// product's own code, which a check must not share.
type Replica struct {
	Name     string
	Dir      string
	Min, End int64 // byte offsets
	Segments []Segment
	Index    uint64 // of the last frame
	Term     uint64
	Records  []Record // of the topic asked for
}

// Segment is one file of a log.
type Segment struct {
	Path      string
	Base, End int64
}

// What FORMAT.md says of segments and frames.
const (
	pageBytes   = 4096
	headBytes   = 68 // the part of the page that is the same on every replica
	frameBytes  = 40
	kindCommand = 0
	kindPad     = 254
)

// ReadReplica reads the log of a replica whose process has ended.
func ReadReplica(n *Node, h *History, topic string) (*Replica, error) {
	r := &Replica{Name: n.Name, Dir: n.LogDir()}
	paths, err := filepath.Glob(filepath.Join(r.Dir, "[0-9]*[0-9]"))
	if err != nil {
		return nil, err
	}
	slices.Sort(paths)
	for _, path := range paths {
		if len(filepath.Base(path)) != 20 {
			continue
		}
		base, err := strconv.ParseInt(filepath.Base(path), 10, 64)
		if err != nil {
			return nil, err
		}
		if len(r.Segments) > 0 && base != r.Segments[len(r.Segments)-1].Base+segmentBytes {
			return nil, fmt.Errorf("%s: a segment is missing before %s", n.Name, path)
		}
		s, err := r.readSegment(path, base, h.Run, topic)
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", n.Name, path, err)
		}
		r.Segments = append(r.Segments, s)
	}
	if len(r.Segments) == 0 {
		return nil, fmt.Errorf("%s: no log in %s", n.Name, r.Dir)
	}
	r.Min, r.End = r.Segments[0].Base, r.Segments[len(r.Segments)-1].End
	return r, nil
}

func (r *Replica) readSegment(path string, base int64, run, topic string) (Segment, error) {
	s := Segment{Path: path, Base: base, End: base}
	data, err := os.ReadFile(path)
	if err != nil {
		return s, err
	}
	if len(data) < pageBytes || string(data[:8]) != "rmqlog\r\n" || int64(binary.BigEndian.Uint64(data[16:])) != base || binary.BigEndian.Uint64(data[24:]) != segmentBytes {
		return s, errors.New("not the head of this segment")
	}
	castagnoli := crc32.MakeTable(crc32.Castagnoli)
	for at := pageBytes; at+frameBytes <= len(data); {
		frame := data[at:]
		size := int(binary.BigEndian.Uint32(frame))
		index, kind := binary.BigEndian.Uint64(frame[8:]), frame[24]
		if size == 0 && index == 0 {
			break // zeros: the end
		}
		offset := base + int64(at-pageBytes)
		if frameBytes+size > len(frame) {
			return s, fmt.Errorf("the frame at %d goes beyond the file", offset)
		}
		record := frame[frameBytes : frameBytes+size]
		if kind == kindPad {
			s.End = offset + frameBytes + int64(size)
			break
		}
		if crc32.Checksum(record, castagnoli) != binary.BigEndian.Uint32(frame[28:]) {
			return s, fmt.Errorf("the frame at %d does not match its CRC", offset)
		}
		if r.Index != 0 && index != r.Index+1 {
			return s, fmt.Errorf("the frame at %d has index %d, the one before %d", offset, index, r.Index)
		}
		r.Index, r.Term = index, binary.BigEndian.Uint64(frame[16:])
		if kind == kindCommand && size > 0 {
			if err := r.readRecord(record, offset+frameBytes, run, topic); err != nil {
				return s, fmt.Errorf("the record at %d: %w", offset, err)
			}
		}
		at += frameBytes + size
		s.End = base + int64(at-pageBytes)
	}
	return s, nil
}

func (r *Replica) readRecord(record []byte, offset int64, run, topic string) error {
	for rest := record; len(rest) > 0; {
		item, more, magic, err := message.NextItem(rest)
		if err != nil {
			return err
		}
		at := offset + int64(len(record)-len(rest))
		rest = more
		if !message.IsMessage(magic) {
			continue
		}
		v, err := message.ParseView(item)
		if err != nil {
			return err
		}
		if v.PhysicalOffset() != at {
			return fmt.Errorf("a message that lies at %d says %d", at, v.PhysicalOffset())
		}
		if string(v.Topic()) == topic {
			r.Records = append(r.Records, recordOf(run, v))
		}
	}
	return nil
}

// CompareLogs reports where the logs of replicas differ within the range that both of two have; nil: nowhere.
func CompareLogs(replicas []*Replica) []string {
	var differences []string
	for _, r := range replicas[1:] {
		differences = append(differences, compareLogs(replicas[0], r)...)
	}
	return differences
}

func compareLogs(a, b *Replica) []string {
	var differences []string
	compared := false
	for _, s := range a.Segments {
		for _, o := range b.Segments {
			if s.Base != o.Base {
				continue
			}
			compared = true
			if at, err := firstDifference(s, o); err != nil {
				differences = append(differences, fmt.Sprintf("%s and %s cannot be compared: %v", a.Name, b.Name, err))
			} else if at >= 0 {
				differences = append(differences, fmt.Sprintf("the logs of %s and %s differ at byte %d (of %d to %d and %d to %d)", a.Name, b.Name, at, a.Min, a.End, b.Min, b.End))
			}
		}
	}
	if !compared {
		differences = append(differences, fmt.Sprintf("%s (%d to %d) and %s (%d to %d) have no range in common", a.Name, a.Min, a.End, b.Name, b.Min, b.End))
	}
	return differences
}

// firstDifference of two files of one segment, as an offset of the log; -1: none in what both have.
func firstDifference(a, b Segment) (int64, error) {
	common := min(a.End, b.End) - a.Base
	var parts [2][]byte
	for i, s := range []Segment{a, b} {
		data, err := readPrefix(s.Path, pageBytes+common)
		if err != nil {
			return 0, err
		}
		parts[i] = data
	}
	if !bytes.Equal(parts[0][:headBytes], parts[1][:headBytes]) {
		return a.Base, nil
	}
	for i, v := range parts[0][pageBytes:] {
		if v != parts[1][pageBytes+i] {
			return a.Base + int64(i), nil
		}
	}
	return -1, nil
}

func readPrefix(path string, size int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data := make([]byte, size)
	_, err = io.ReadFull(f, data)
	return data, err
}
