package store

import (
	"bytes"
	"errors"
	"fmt"

	"rmq/store/message"
)

// KeyQueryResult is the answer to QueryByKey.
type KeyQueryResult struct {
	Messages [][]byte // stored form, newest first
	LastTime int64    // store time up to which the index reaches, ms
	LastPhys int64    // log position of the last message in the index
}

// QueryByKey returns up to max messages of topic that carry key and were stored in [begin, end] ms, newest first.
// unique: only the UNIQ_KEY property counts; otherwise KEYS and UNIQ_KEY both do. Every message is compared, so hash
// collisions do not show. At most 16,384 candidates are read. Without Options.KeyIndex nothing is found.
func (s *Store) QueryByKey(topic, key string, unique bool, begin, end int64, max int) (KeyQueryResult, error) {
	for attempt := 0; ; attempt++ {
		res, err := s.queryByKey(topic, key, unique, begin, end, max)
		// A run that was merged away meanwhile fails with its closed file; its successor is in the index by now.
		if err != nil && errors.Is(err, errRunGone) && attempt < 3 {
			continue
		}
		return res, err
	}
}

var (
	errRunGone    = errors.New("key index run was replaced")
	errRunDamaged = fmt.Errorf("key index run: %w", ErrCorrupt)
)

func (s *Store) queryByKey(topic, key string, unique bool, begin, end int64, max int) (KeyQueryResult, error) {
	res := KeyQueryResult{LastTime: s.lastStoreTime.Load(), LastPhys: s.lastPhys.Load()}
	trim, applied := s.trim.Load(), s.applied.Load()
	last, candidates := applied, 0
	err := s.keys.lookup(keyHash([]byte(topic), []byte(key)), begin, end, func(phys int64) (bool, error) {
		if phys < trim || len(res.Messages) >= max || candidates >= keyCandidatesMax {
			return false, nil
		}
		if phys >= last {
			return true, nil // a key given twice, or a record applied after the query began
		}
		last = phys
		candidates++
		b, err := s.readMessage(phys)
		if errors.Is(err, ErrNotFound) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		v := message.View(b)
		if t := v.StoreTimestamp(); t >= begin && t <= end && string(v.Topic()) == topic && hasKey(v.Properties(), key, unique) {
			res.Messages = append(res.Messages, b)
		}
		return true, nil
	})
	if err != nil {
		return KeyQueryResult{}, fmt.Errorf("query %s by key: %w", topic, err)
	}
	return res, nil
}

func hasKey(p message.Properties, key string, unique bool) bool {
	k := messageKeys(p)
	if string(k.uniq) == key {
		return true
	}
	if unique {
		return false
	}
	for rest := k.keys; len(rest) > 0; {
		item := rest
		if i := bytes.IndexByte(rest, message.KeySeparator); i >= 0 {
			item, rest = rest[:i], rest[i+1:]
		} else {
			rest = nil
		}
		if string(item) == key {
			return true
		}
	}
	return false
}
