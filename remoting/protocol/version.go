package protocol

// Ordinals of Apache's MQVersion. A header's version member carries one, and a few decisions hang on it.
const (
	// MQVersion is what rmq sends: 5.3.3. Clients keep the version of a heartbeat's answer as the broker's.
	MQVersion = V5_3_3

	V3_0_11         = 37 // oldest broker whose registration a name server reads
	V3_1_8          = 62
	V3_4_9          = 121 // from here a send-back header's maxReconsumeTimes counts
	V4_1_0_SNAPSHOT = 232 // below it clients refuse SQL92 subscriptions
	V4_9_3          = 399 // up to here a signature skips one ext field
	V4_9_4          = 401 // from here a route has standard JSON
	V5_0_0          = 413 // from here a compressed registration ends with queue mappings
	V5_3_1          = 475 // above it a client understands GO_AWAY
	V5_3_3          = 479
)
