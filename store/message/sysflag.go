package message

// Bits of a message's system flag.
const (
	SysFlagCompressed    int32 = 1 << 0 // the body is compressed
	SysFlagMultiTags     int32 = 1 << 1
	SysFlagNotTx         int32 = 0      // a value of the transaction field: an ordinary message
	SysFlagPrepared      int32 = 1 << 2 // a value of the transaction field: a half message
	SysFlagCommit        int32 = 2 << 2 // a value of the transaction field: a committed message
	SysFlagRollback      int32 = 3 << 2 // a value of the transaction field: a rollback mark
	SysFlagTxMask        int32 = 3 << 2 // the transaction field
	SysFlagBornHostV6    int32 = 1 << 4 // the born host takes 16 + 4 bytes
	SysFlagStoreHostV6   int32 = 1 << 5 // the store host takes 16 + 4 bytes
	SysFlagNeedUnwrap    int32 = 1 << 6 // the client has to unpack an inner batch
	SysFlagInnerBatch    int32 = 1 << 7 // the body is an inner batch
	SysFlagCompressMask  int32 = 7 << 8 // the compressor field: 0 or 3 zlib, 1 LZ4, 2 zstd
	sysFlagCompressShift       = 8
)

// Transaction returns the transaction field of a system flag: SysFlagNotTx, SysFlagPrepared, SysFlagCommit or
// SysFlagRollback.
func Transaction(sysFlag int32) int32 { return sysFlag & SysFlagTxMask }

// WithTransaction returns sysFlag with its transaction field set to tx.
func WithTransaction(sysFlag, tx int32) int32 { return sysFlag&^SysFlagTxMask | tx&SysFlagTxMask }

// Compressor is the value of the compressor field of a system flag.
type Compressor uint8

// Known compressors. Zlib is also what the field value 3 means.
const (
	CompressorZlib Compressor = 0
	CompressorLZ4  Compressor = 1
	CompressorZstd Compressor = 2
)

// CompressorOf returns the compressor field of a system flag. It says nothing about whether the body is compressed.
func CompressorOf(sysFlag int32) Compressor {
	c := Compressor(sysFlag & SysFlagCompressMask >> sysFlagCompressShift)
	if c == 3 {
		return CompressorZlib
	}
	return c
}

// Queued reports whether a message with this system flag takes a place in its consume queue. Half messages and
// rollback marks in their raw form do not; their stored queue offset is 0.
func Queued(sysFlag int32) bool {
	tx := Transaction(sysFlag)
	return tx == SysFlagNotTx || tx == SysFlagCommit
}
