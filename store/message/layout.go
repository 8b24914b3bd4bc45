package message

// Magic numbers, the second word of every item of a log record.
const (
	// MagicV1 marks a stored message whose topic length takes one byte.
	MagicV1 uint32 = 0xDAA320A7
	// MagicV2 marks a stored message whose topic length takes two bytes; used only for topics over 127 bytes.
	MagicV2 uint32 = 0xDAA320AB
)

// Blank stands in a stored offset that the log has not filled yet. It is all ones, because 0 is a valid offset.
const Blank int64 = -1

// Limits of the stored form. SizeMax is the decode cap: no item of a record may be larger.
const (
	SizeMax           = 32 << 20
	HeadBytesMin      = 91 // the smallest message: V1, IPv4 hosts, empty body, topic and properties
	topicV1Max        = 127
	TopicBytesMax     = 512
	PropertyBytesMax  = 32767
	itemHeaderBytes   = 8
	fixedBytesMin     = HeadBytesMin
	posMagic          = 4
	posBodyCRC        = 8
	posQueueID        = 12
	posFlag           = 16
	posQueueOffset    = 20
	posPhysicalOffset = 28
	posSysFlag        = 36
	posBornTimestamp  = 40
	posBornHost       = 48
	hostBytesV4       = 8
	hostBytesV6       = 20
)

// hostBytes is the width of a stored host under sysFlag's bit.
func hostBytes(sysFlag int32, bit int32) int {
	if sysFlag&bit != 0 {
		return hostBytesV6
	}
	return hostBytesV4
}

func posStoreTimestamp(sysFlag int32) int {
	return posBornHost + hostBytes(sysFlag, SysFlagBornHostV6)
}

func posStoreHost(sysFlag int32) int { return posStoreTimestamp(sysFlag) + 8 }

func posReconsumeTimes(sysFlag int32) int {
	return posStoreHost(sysFlag) + hostBytes(sysFlag, SysFlagStoreHostV6)
}

func posPrepared(sysFlag int32) int { return posReconsumeTimes(sysFlag) + 4 }

func posBodyLength(sysFlag int32) int { return posPrepared(sysFlag) + 8 }
