package store

import (
	"errors"
	"fmt"
	"slices"

	"rmq/store/message"
)

// scanner is a log that can be read record by record. A Log that is one lets damaged derived files be rebuilt.
type scanner interface {
	// Scan calls fn for each record that ends above byte from, in log order. It stops at fn's first error and returns it.
	Scan(from int64, fn func(record []byte, offset int64) error) error
}

var (
	errScanEnd = errors.New("end of scan")
	errNoScan  = errors.New("the log cannot be scanned")
)

// scanMessages calls fn for each message in [from, to) of the log that is still there. It is a logScan.
func (s *Store) scanMessages(from, to int64, fn func(v message.View, pos int64) error) error {
	log, ok := s.log.(scanner)
	if !ok {
		return errNoScan
	}
	err := log.Scan(max(from, s.log.MinOffset()), func(record []byte, offset int64) error {
		for pos, rest := offset, record; len(rest) > 0; {
			if pos >= to {
				return errScanEnd
			}
			item, tail, magic, err := message.NextItem(rest)
			if err != nil {
				return err
			}
			if message.IsMessage(magic) && pos >= from {
				v, err := message.ParseView(item)
				if err != nil {
					return err
				}
				if err := fn(v, pos); err != nil {
					return err
				}
			}
			pos += int64(len(item))
			rest = tail
		}
		return nil
	})
	if errors.Is(err, errScanEnd) {
		return nil
	}
	return err
}

// rebuildBlock makes one damaged block anew from the log, leaves its entries in sc and repairs the file. cause is what was
// found. It is called by readers; one works at a time.
func (s *Store) rebuildBlock(q *queue, base int64, number uint32, sc *scratch, cause error) error {
	s.rebuildMu.Lock()
	defer s.rebuildMu.Unlock()
	l := label{q.number, base}
	if err := s.blocks.read(number, l, sc.block[:], &sc.entries); !errors.Is(err, ErrCorrupt) {
		return err // somebody else has just repaired it
	}
	s.logger.Error("consume queue block is damaged, rebuilding it from the log", "topic", q.topic, "queue", q.id, "offset", base, "err", cause)
	from, to, err := s.blockSpan(q, base)
	if err != nil {
		return err
	}
	var entries [blockEntries]entry
	found := 0
	err = s.scanMessages(from, to, func(v message.View, pos int64) error {
		i := v.QueueOffset() - base
		if i < 0 || i >= blockEntries || v.QueueID() != q.id || !message.Queued(v.SysFlag()) || string(v.Topic()) != q.topic {
			return nil
		}
		entries[i] = entryOf(v, pos)
		if found++; found == blockEntries {
			return errScanEnd
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("%w; rebuild: %w", cause, err)
	}
	if err := s.checkRebuilt(&entries); err != nil {
		return fmt.Errorf("%w; rebuild: %w", cause, err)
	}
	if err := s.blocks.repair(number, l, &entries); err != nil && !errors.Is(err, errBlockGone) {
		s.fail(err)
		return err
	}
	sc.entries = entries
	return nil
}

func entryOf(v message.View, pos int64) entry {
	return entry{phys: pos, size: int32(v.Size()), tagsCode: int32(message.TagsCode(messageKeys(v.Properties()).tag))}
}

// checkRebuilt refuses a block with holes. Entries whose messages are below the log's start stay empty: they are below the
// trim offset as well and nobody asks for them.
func (s *Store) checkRebuilt(entries *[blockEntries]entry) error {
	for i := range entries {
		if entries[i].size == 0 && (i > 0 && entries[i-1].size != 0 || s.log.MinOffset() == 0) {
			return fmt.Errorf("entry %d is not in the log: %w", i, ErrCorrupt)
		}
	}
	return nil
}

// blockSpan returns a range of the log that holds the messages of a block: from its readable neighbours, or else from the
// queue's birth and to the applied offset.
func (s *Store) blockSpan(q *queue, base int64) (from, to int64, err error) {
	q.mu.Lock()
	first, blocks := q.first, slices.Clone(q.blocks)
	from, to = q.born, s.applied.Load()
	if len(q.tail) > 0 {
		to = q.tail[0].phys
	}
	q.mu.Unlock()
	at := int((base - first) / blockEntries)
	if at < 0 || at >= len(blocks) {
		return 0, 0, errBlockGone
	}
	var sc scratch
	readable := func(i int) bool {
		return s.blocks.read(blocks[i], label{q.number, first + int64(i)*blockEntries}, sc.block[:], &sc.entries) == nil
	}
	for i := at - 1; i >= 0; i-- {
		if readable(i) {
			from = sc.entries[blockEntries-1].phys
			break
		}
	}
	for i := at + 1; i < len(blocks); i++ {
		if readable(i) {
			to = sc.entries[0].phys
			break
		}
	}
	return from, to, nil
}
