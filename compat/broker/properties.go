package broker

import (
	"strconv"
	"strings"

	"rmq/store/message"
)

// clientProperties is what the broker has to know of a sent message's property string, found in one pass.
type clientProperties struct {
	uniqueKey   string
	delayLevel  int32
	timer       bool // one of the TIMER_ properties is there
	transaction bool
	rewrite     bool // a property is there that must not be stored as it came
	region      bool
	traceOn     bool
	cluster     bool
	noWait      bool // WAIT=false: the producer does not wait for other replicas
}

// dropped reports properties of a client that never reach the log: a receipt of an earlier pop, and the marks that the
// broker itself puts on parked messages.
func dropped(name string) bool {
	switch name {
	case message.PropertyPopCK, message.PropertyTimerOutMS, message.PropertyRealTopic, message.PropertyRealQueueID:
		return true
	}
	return false
}

func readClientProperties(raw string) (p clientProperties, err error) {
	for rest := raw; rest != ""; {
		pair, tail, _ := strings.Cut(rest, "\x02")
		rest = tail
		name, value, ok := strings.Cut(pair, "\x01")
		if !ok || value == "" {
			continue
		}
		switch name {
		case message.PropertyUniqKey:
			p.uniqueKey = value
		case message.PropertyDelay:
			level, err := strconv.ParseInt(value, 10, 32)
			if err != nil {
				return p, refuse(MessageIllegal, "the message is illegal: property DELAY holds %.32q, not a number", value)
			}
			p.delayLevel = int32(max(level, 0))
		case message.PropertyTransactionPrepared:
			p.transaction = strings.EqualFold(value, "true")
		case message.PropertyWait:
			p.noWait = value == "false"
		case message.PropertyMsgRegion:
			p.region = true
		case message.PropertyTraceSwitch:
			p.traceOn = true
		case message.PropertyCluster:
			p.cluster = true
		case message.PropertyTimerDeliverMS, message.PropertyTimerDelayMS, message.PropertyTimerDelaySec:
			p.timer = true
		default:
			p.rewrite = p.rewrite || dropped(name)
		}
	}
	return p, nil
}

// appendTo appends the client's property string to dst, which holds the broker's, without what must not be stored. With
// dropDelay the delay level goes too: a dead letter is not parked again.
func (p *clientProperties) appendTo(dst []byte, raw string, dropDelay bool) []byte {
	if !p.rewrite && !(dropDelay && p.delayLevel > 0) {
		dst = append(dst, raw...)
		if n := len(dst); n > 0 && dst[n-1] != 2 {
			dst = append(dst, 2)
		}
		return dst
	}
	for pair := range strings.SplitSeq(raw, "\x02") {
		name, _, ok := strings.Cut(pair, "\x01")
		if !ok || dropped(name) || dropDelay && name == message.PropertyDelay {
			continue
		}
		dst = append(append(dst, pair...), 2)
	}
	return dst
}
