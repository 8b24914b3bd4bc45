package broker

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"time"
)

// uniqueIDs makes UNIQ_KEYs for messages whose client sent none, in the clients' own layout: address, process id, a
// number that tells runs apart (theirs is a class loader's hash), ms since the month began, counter.
type uniqueIDs struct {
	prefix  []byte
	counter atomic.Uint32
}

func (u *uniqueIDs) init(addr netip.Addr, started time.Time) {
	u.prefix = append(u.prefix, addr.AsSlice()...)
	u.prefix = binary.BigEndian.AppendUint16(u.prefix, uint16(os.Getpid()))
	u.prefix = binary.BigEndian.AppendUint32(u.prefix, uint32(started.UnixNano()>>10))
}

func (u *uniqueIDs) next(now time.Time) string {
	month := time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, now.Location())
	var room [32]byte
	id := append(room[:0], u.prefix...)
	id = binary.BigEndian.AppendUint32(id, uint32(now.Sub(month).Milliseconds()))
	id = binary.BigEndian.AppendUint16(id, uint16(u.counter.Add(1)))
	return strings.ToUpper(hex.EncodeToString(id))
}
