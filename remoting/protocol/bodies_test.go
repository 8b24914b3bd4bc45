package protocol

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"sort"
	"strings"
	"testing"

	"rmq/remoting/fastjson"
)

var goldenMQ = MessageQueue{Topic: "T", BrokerName: "b-a", QueueID: 0}

// golden is a body and the text Apache's classes gave for it.
type golden struct {
	text   string
	body   any
	legacy bool // integer keys unquoted
}

func goldenBodies() map[string]golden {
	const mq = `{"brokerName":"b-a","queueId":0,"topic":"T"}`
	const sub = `{"classFilterMode":false,"codeSet":[97],"expressionType":"TAG","subString":"a||b","subVersion":1795350449278,"tagsSet":["a"],"topic":"T"}`
	const topic = `{"attributes":{},"order":false,"perm":6,"readQueueNums":4,"topicFilterType":"SINGLE_TAG","topicName":"T","topicSysFlag":0,"writeQueueNums":4}`
	const version = `{"counter":0,"stateVersion":0,"timestamp":1795350449165}`
	const group = `{"attributes":{},"brokerId":0,"consumeBroadcastEnable":true,"consumeEnable":true,"consumeFromMinEnable":true,"consumeMessageOrderly":false,"consumeTimeoutMinute":15,"groupName":"g","groupRetryPolicy":{"type":"CUSTOMIZED"},"groupSysFlag":0,"notifyConsumerIdsChangedEnable":true,"retryMaxTimes":16,"retryQueueNums":1,"whichBrokerWhenConsumeSlowly":1}`
	const broker = `{"brokerAddrs":{0:"1.1.1.1:10911",1:"1.1.1.2:10911"},"brokerName":"b-a","cluster":"C","enableActingMaster":false,"zoneName":"z"}`
	const queue = `{"brokerName":"b-a","perm":6,"readQueueNums":4,"topicSysFlag":0,"writeQueueNums":4}`
	const conn = `{"clientAddr":"1.1.1.1:99","clientId":"c","language":"JAVA","version":1}`
	const processQueue = `{"cachedMsgCount":1,"cachedMsgMaxOffset":2,"cachedMsgMinOffset":3,"cachedMsgSizeInMiB":4,"commitOffset":5,"droped":false,"lastConsumeTimestamp":6,"lastLockTimestamp":7,"lastPullTimestamp":8,"locked":true,"transactionMsgCount":9,"transactionMsgMaxOffset":10,"transactionMsgMinOffset":11,"tryUnlockTimes":12}`
	const haClient = `{"activated":false,"lastReadTimestamp":0,"lastWriteTimestamp":0,"masterFlushOffset":0,"maxOffset":0,"transferredByteInSecond":0}`

	goldenSub := SubscriptionData{Topic: "T", SubString: "a||b", TagsSet: []string{"a"}, CodeSet: []int32{97}, SubVersion: 1795350449278, ExpressionType: ExpressionTag}
	goldenTopic := TopicConfig{TopicName: "T", ReadQueueNums: 4, WriteQueueNums: 4, Perm: 6, TopicFilterType: SingleTag, Attributes: map[string]string{}}
	goldenVersion := DataVersion{Timestamp: 1795350449165}
	goldenGroup := SubscriptionGroupConfig{}
	goldenGroup.SetDefaults()
	goldenGroup.GroupName, goldenGroup.Attributes = "g", map[string]string{}
	exponential, customized := goldenGroup, goldenGroup
	exponential.GroupRetryPolicy = GroupRetryPolicy{Type: RetryExponential, ExponentialRetryPolicy: &ExponentialRetryPolicy{5000, 7200000, 2}}
	customized.GroupRetryPolicy = GroupRetryPolicy{Type: RetryCustomized, CustomizedRetryPolicy: &CustomizedRetryPolicy{[]int64{1000, 2000}}}
	customized.SubscriptionDataSet = []SimpleSubscription{{Topic: "T", ExpressionType: "TAG", Expression: "*", Version: 1}}
	goldenBroker := BrokerData{Cluster: "C", BrokerName: "b-a", BrokerAddrs: map[int64]string{0: "1.1.1.1:10911", 1: "1.1.1.2:10911"}, ZoneName: "z"}
	goldenQueue := QueueData{BrokerName: "b-a", Perm: 6, ReadQueueNums: 4, WriteQueueNums: 4}
	goldenConn := Connection{ClientID: "c", ClientAddr: "1.1.1.1:99", Language: "JAVA", Version: 1}
	wrapper := TopicConfigSerializeWrapper{TopicConfigTable: map[string]TopicConfig{"T": goldenTopic}, DataVersion: goldenVersion}
	both := TopicConfigAndMappingSerializeWrapper{TopicConfigSerializeWrapper: wrapper, MappingDataVersion: goldenVersion,
		TopicQueueMappingInfoMap: map[string]fastjson.Raw{}, TopicQueueMappingDetailMap: map[string]fastjson.Raw{}}
	const bothText = `{"dataVersion":` + version + `,"mappingDataVersion":` + version + `,"topicConfigTable":{"T":` + topic + `},"topicQueueMappingDetailMap":{},"topicQueueMappingInfoMap":{}}`
	tables := GetConsumerStatusBody{MessageQueueTable: map[MessageQueue]int64{goldenMQ: 7}, ConsumerTable: map[string]map[MessageQueue]int64{"clientId": {goldenMQ: 7}}}

	return map[string]golden{
		"MessageQueue": {mq, &goldenMQ, false},
		"TopicRouteData": {`{"brokerDatas":[` + broker + `],"filterServerTable":{},"orderTopicConf":"b-a:4","queueDatas":[` + queue + `]}`,
			&TopicRouteData{OrderTopicConf: "b-a:4", QueueDatas: []QueueData{goldenQueue}, BrokerDatas: []BrokerData{goldenBroker}, FilterServerTable: map[string][]string{}}, true},
		"TopicRouteData standard": {`{"brokerDatas":[` + quoteKeys(broker) + `],"filterServerTable":{},"queueDatas":[]}`,
			&TopicRouteData{QueueDatas: []QueueData{}, BrokerDatas: []BrokerData{goldenBroker}, FilterServerTable: map[string][]string{}}, false},
		"ClusterInfo": {`{"brokerAddrTable":{"b-a":` + broker + `},"clusterAddrTable":{"C":["b-a"]}}`,
			&ClusterInfo{map[string]BrokerData{"b-a": goldenBroker}, map[string][]string{"C": {"b-a"}}}, true},
		"GetBrokerMemberGroupResponseBody": {`{"brokerMemberGroup":{"brokerAddrs":{0:"a"},"brokerName":"b-a","cluster":"C"}}`,
			&GetBrokerMemberGroupResponseBody{&BrokerMemberGroup{"C", "b-a", map[int64]string{0: "a"}}}, true},
		"DataVersion":                           {version, &goldenVersion, false},
		"TopicConfig":                           {topic, &goldenTopic, false},
		"TopicConfigAndQueueMapping":            {topic, &TopicConfigAndQueueMapping{TopicConfig: goldenTopic}, false},
		"CreateTopicListRequestBody":            {`{"topicConfigList":[` + topic + `]}`, &CreateTopicListRequestBody{[]TopicConfig{goldenTopic}}, false},
		"TopicConfigSerializeWrapper":           {`{"dataVersion":` + version + `,"topicConfigTable":{"T":` + topic + `}}`, &wrapper, false},
		"TopicConfigAndMappingSerializeWrapper": {bothText, &both, false},
		"RegisterBrokerBody": {`{"filterServerList":[],"topicConfigSerializeWrapper":` + bothText + `}`,
			&RegisterBrokerBody{FilterServerList: []string{}, TopicConfigSerializeWrapper: both}, false},
		"SubscriptionGroupConfig":             {group, &goldenGroup, false},
		"SubscriptionGroupConfig exponential": {strings.Replace(group, `{"type":"CUSTOMIZED"}`, `{"exponentialRetryPolicy":{"initial":5000,"max":7200000,"multiplier":2},"type":"EXPONENTIAL"}`, 1), &exponential, false},
		"SubscriptionGroupConfig customized": {strings.Replace(strings.Replace(group, `{"type":"CUSTOMIZED"}`, `{"customizedRetryPolicy":{"next":[1000,2000]},"type":"CUSTOMIZED"}`, 1),
			`,"which`, `,"subscriptionDataSet":[{"expression":"*","expressionType":"TAG","topic":"T","version":1}],"which`, 1), &customized, false},
		"SubscriptionGroupList": {`{"groupConfigList":[` + group + `]}`, &SubscriptionGroupList{[]SubscriptionGroupConfig{goldenGroup}}, false},
		"SubscriptionGroupWrapper": {`{"dataVersion":` + version + `,"forbiddenTable":{"g":{"T":1}},"subscriptionGroupTable":{"g":` + group + `}}`,
			&SubscriptionGroupWrapper{map[string]SubscriptionGroupConfig{"g": goldenGroup}, map[string]map[string]int32{"g": {"T": 1}}, goldenVersion}, false},
		"GroupForbidden": {`{"group":"g","readable":true,"topic":"T"}`, &GroupForbidden{"g", "T", true}, false},
		"HeartbeatData": {`{"clientID":"ip@pid#ns","consumerDataSet":[{"consumeFromWhere":"CONSUME_FROM_LAST_OFFSET","consumeType":"CONSUME_PASSIVELY","groupName":"cg","messageModel":"CLUSTERING","subscriptionDataSet":[` + sub + `],"unitMode":false}],"heartbeatFingerprint":0,"producerDataSet":[{"groupName":"pg"}],"withoutSub":false}`,
			&HeartbeatData{ClientID: "ip@pid#ns", ProducerDataSet: []ProducerData{{"pg"}}, ConsumerDataSet: []ConsumerData{{GroupName: "cg", ConsumeType: ConsumePassively,
				MessageModel: Clustering, ConsumeFromWhere: ConsumeFromLastOffset, SubscriptionDataSet: []SubscriptionData{goldenSub}}}}, false},
		"LockBatchRequestBody":  {`{"clientId":"c","consumerGroup":"g","mqSet":[` + mq + `],"onlyThisBroker":false}`, &LockBatchRequestBody{ConsumerGroup: "g", ClientID: "c", MQSet: []MessageQueue{goldenMQ}}, false},
		"LockBatchResponseBody": {`{"lockOKMQSet":[` + mq + `]}`, &LockBatchResponseBody{[]MessageQueue{goldenMQ}}, false},
		"KVTable":               {`{"table":{"k":"v"}}`, &KVTable{map[string]string{"k": "v"}}, false},
		"ConsumerConnection": {`{"connectionSet":[` + conn + `],"consumeFromWhere":"CONSUME_FROM_TIMESTAMP","consumeType":"CONSUME_POP","messageModel":"BROADCASTING","subscriptionTable":{"T":` + sub + `}}`,
			&ConsumerConnection{[]Connection{goldenConn}, map[string]SubscriptionData{"T": goldenSub}, ConsumePop, Broadcasting, ConsumeFromTimestamp}, false},
		"ProducerConnection": {`{"connectionSet":[` + conn + `]}`, &ProducerConnection{[]Connection{goldenConn}}, false},
		"ProducerTableInfo": {`{"data":{"g":[{"clientId":"c","language":"GO","lastUpdateTimestamp":2,"remoteIP":"1.1.1.1","version":1}]}}`,
			&ProducerTableInfo{map[string][]ProducerInfo{"g": {{"c", "1.1.1.1", "GO", 1, 2}}}}, false},
		"ConsumeStats": {`{"consumeTps":0.0,"offsetTable":{` + mq + `:{"brokerOffset":10,"consumerOffset":0,"lastTimestamp":0,"pullOffset":0}}}`,
			&ConsumeStats{OffsetTable: map[MessageQueue]OffsetWrapper{goldenMQ: {BrokerOffset: 10}}}, false},
		"ConsumeStatsList": {`{"brokerAddr":"a","consumeStatsList":[{"g":[{"consumeTps":1.5,"offsetTable":{}}]}],"totalDiff":0,"totalInflightDiff":0}`,
			&ConsumeStatsList{ConsumeStatsList: []map[string][]ConsumeStats{{"g": {{map[MessageQueue]OffsetWrapper{}, 1.5}}}}, BrokerAddr: "a"}, false},
		"TopicStatsTable": {`{"offsetTable":{` + mq + `:{"lastUpdateTimestamp":0,"maxOffset":5,"minOffset":0}},"topicPutTps":0.0}`,
			&TopicStatsTable{OffsetTable: map[MessageQueue]TopicOffset{goldenMQ: {MaxOffset: 5}}}, false},
		"QueryConsumeTimeSpanBody": {`{"consumeTimeSpanSet":[{"consumeTimeStamp":0,"consumeTimeStampStr":"1970-01-01#00:00:00:000","delayTime":0,"maxTimeStamp":0,"maxTimeStampStr":"b","messageQueue":` + mq + `,"minTimeStamp":0,"minTimeStampStr":"a"}]}`,
			&QueryConsumeTimeSpanBody{[]QueueTimeSpan{{MessageQueue: goldenMQ, MinTimeStampStr: "a", MaxTimeStampStr: "b", ConsumeTimeStampStr: "1970-01-01#00:00:00:000"}}}, false},
		"ConsumerRunningInfo": {`{"jstack":"j","mqPopTable":{` + mq + `:{"droped":false,"lastPopTimestamp":0,"waitAckCount":0}},"mqTable":{` + mq + `:` + processQueue + `},"properties":{"k":"v"},"statusTable":{"T":{"consumeFailedMsgs":0,"consumeFailedTPS":0.0,"consumeOKTPS":0.0,"consumeRT":0.0,"pullRT":0.0,"pullTPS":0.0}},"subscriptionSet":[` + sub + `],"userConsumerInfo":{}}`,
			&ConsumerRunningInfo{map[string]string{"k": "v"}, []SubscriptionData{goldenSub}, map[MessageQueue]ProcessQueueInfo{goldenMQ: {CachedMsgCount: 1, CachedMsgMaxOffset: 2,
				CachedMsgMinOffset: 3, CachedMsgSizeInMiB: 4, CommitOffset: 5, LastConsumeTimestamp: 6, LastLockTimestamp: 7, LastPullTimestamp: 8, Locked: true,
				TransactionMsgCount: 9, TransactionMsgMaxOffset: 10, TransactionMsgMinOffset: 11, TryUnlockTimes: 12}},
				map[MessageQueue]PopProcessQueueInfo{goldenMQ: {}}, map[string]ConsumeStatus{"T": {}}, map[string]string{}, "j"}, false},
		"ConsumeMessageDirectlyResult": {`{"autoCommit":true,"consumeResult":"CR_SUCCESS","order":false,"remark":"r","spentTimeMills":0}`,
			&ConsumeMessageDirectlyResult{AutoCommit: true, ConsumeResult: "CR_SUCCESS", Remark: "r"}, false},
		"ResetOffsetBody":       {`{"offsetTable":{` + mq + `:7}}`, &ResetOffsetBody{map[MessageQueue]int64{goldenMQ: 7}}, false},
		"ResetOffsetBodyForC":   {`{"offsetTable":[{"brokerName":"b-a","offset":7,"queueId":0,"topic":"T"}]}`, &ResetOffsetBodyForC{[]MessageQueueForC{{"T", "b-a", 0, 7}}}, false},
		"GetConsumerStatusBody": {`{"consumerTable":{"clientId":{` + mq + `:7}},"messageQueueTable":{` + mq + `:7}}`, &tables, false},
		"ConsumerOffsetSerializeWrapper": {`{"dataVersion":` + version + `,"offsetTable":{"topic@group":{0:5}}}`,
			&ConsumerOffsetSerializeWrapper{map[string]map[int32]int64{"topic@group": {0: 5}}, goldenVersion}, true},
		"DelayOffsetSerializeWrapper": {`{"dataVersion":` + version + `,"offsetTable":{1:5}}`, &DelayOffsetSerializeWrapper{map[int32]int64{1: 5}, goldenVersion}, true},
		"QueryCorrectionOffsetBody":   {`{"correctionOffsets":{0:9}}`, &QueryCorrectionOffsetBody{map[int32]int64{0: 9}}, true},
		"TopicList":                   {`{"brokerAddr":"a","topicList":["T"]}`, &TopicList{[]string{"T"}, "a"}, false},
		"TopicList empty":             {`{"topicList":[]}`, &TopicList{TopicList: []string{}}, false},
		"GroupList":                   {`{"groupList":["g"]}`, &GroupList{[]string{"g"}}, false},
		"BrokerStatsData": {`{"statsDay":{"avgpt":0.0,"sum":0,"tps":0.0},"statsHour":{"avgpt":0.0,"sum":0,"tps":0.0},"statsMinute":{"avgpt":1.0,"sum":56,"tps":1.8666666666666667}}`,
			&BrokerStatsData{StatsMinute: BrokerStatsItem{56, 1.8666666666666667, 1}}, false},
		"CheckClientRequestBody":             {`{"clientId":"c","group":"g","namespace":"n","subscriptionData":` + sub + `}`, &CheckClientRequestBody{"c", "g", goldenSub, "n"}, false},
		"QuerySubscriptionResponseBody":      {`{"group":"g","subscriptionData":` + sub + `,"topic":"T"}`, &QuerySubscriptionResponseBody{&goldenSub, "g", "T"}, false},
		"GetConsumerListByGroupResponseBody": {`{"consumerIdList":["ip@pid#ts"]}`, &GetConsumerListByGroupResponseBody{[]string{"ip@pid#ts"}}, false},
		"QueryConsumeQueueResponseBody": {`{"filterData":"f","maxQueueIndex":0,"minQueueIndex":0,"queueData":[{"bitMap":"b","eval":false,"extendDataJson":"e","msg":"m","physicOffset":0,"physicSize":0,"tagsCode":0}],"subscriptionData":` + sub + `}`,
			&QueryConsumeQueueResponseBody{&goldenSub, "f", []ConsumeQueueData{{BitMap: "b", ExtendDataJSON: "e", Msg: "m"}}, 0, 0}, false},
		"QueryAssignmentRequestBody": {`{"clientId":"c","consumerGroup":"g","messageModel":"CLUSTERING","strategyName":"AVG","topic":"T"}`,
			&QueryAssignmentRequestBody{"T", "g", "c", "AVG", Clustering}, false},
		"QueryAssignmentResponseBody": {`{"messageQueueAssignments":[{"attachments":{"k":"v"},"messageQueue":{"brokerName":"b-a","queueId":-1,"topic":"T"},"mode":"POP"}]}`,
			&QueryAssignmentResponseBody{[]MessageQueueAssignment{{&MessageQueue{"T", "b-a", -1}, ModePop, map[string]string{"k": "v"}}}}, false},
		"SetMessageRequestModeRequestBody": {`{"consumerGroup":"g","mode":"POP","popShareQueueNum":1,"topic":"T"}`, &SetMessageRequestModeRequestBody{"T", "g", ModePop, 1}, false},
		"MessageRequestModeSerializeWrapper": {`{"messageRequestModeMap":{"T":{"g":{"consumerGroup":"g","mode":"PULL","popShareQueueNum":0,"topic":"T"}}}}`,
			&MessageRequestModeSerializeWrapper{map[string]map[string]SetMessageRequestModeRequestBody{"T": {"g": {"T", "g", ModePull, 0}}}}, false},
		"BatchAckMessageRequestBody": {`{"acks":[{"b":"BQI=","c":"g","it":0,"pt":0,"q":0,"r":"0","rq":0,"so":3,"t":"T"}],"brokerName":"b-a"}`,
			&BatchAckMessageRequestBody{"b-a", []BatchAck{{ConsumerGroup: "g", Topic: "T", Retry: "0", StartOffset: 3, BitSet: []byte{5, 2}}}}, false},
		"HARuntimeInfo": {`{"haClientRuntimeInfo":` + haClient + `,"haConnectionInfo":[{"addr":"a","diff":1,"inSync":true,"slaveAckOffset":2,"transferFromWhere":3,"transferredByteInSecond":4}],"inSyncSlaveNums":1,"master":true,"masterCommitLogMaxOffset":5}`,
			&HARuntimeInfo{true, 5, 1, []HAConnectionInfo{{"a", 2, 1, true, 4, 3}}, HAClientRuntimeInfo{}}, false},
		"BrokerReplicasInfo": {`{"replicasInfoTable":{"b-a":{"inSyncReplicas":[{"alive":true,"brokerAddress":"a","brokerId":1,"brokerName":"b-a"}],"masterAddress":"m","masterBrokerId":2,"masterEpoch":3,"notInSyncReplicas":[],"syncStateSetEpoch":4}}}`,
			&BrokerReplicasInfo{map[string]ReplicasInfo{"b-a": {2, "m", 3, 4, []ReplicaIdentity{{"b-a", 1, "a", true}}, []ReplicaIdentity{}}}}, false},
		"EpochEntryCache": {`{"brokerId":1,"brokerName":"b-a","clusterName":"C","epochList":[{"endOffset":9,"epoch":2,"startOffset":3}],"maxOffset":9}`,
			&EpochEntryCache{"C", "b-a", 1, []EpochEntry{{2, 3, 9}}, 9}, false},
		"UserInfo": {`{"password":"p","userStatus":"enable","userType":"Super","username":"u"}`, &UserInfo{"u", "p", "Super", "enable"}, false},
		"AclInfo": {`{"policies":[{"entries":[{"actions":["Pub"],"decision":"Allow","resource":"Topic:*","sourceIps":["1.1.1.1"]}],"policyType":"Custom"}],"subject":"User:u"}`,
			&AclInfo{"User:u", []PolicyInfo{{"Custom", []PolicyEntryInfo{{"Topic:*", []string{"Pub"}, []string{"1.1.1.1"}, "Allow"}}}}}, false},
	}
}

// quoteKeys quotes the two broker ids of the golden broker data.
func quoteKeys(s string) string {
	return strings.NewReplacer(`{0:`, `{"0":`, `,1:`, `,"1":`).Replace(s)
}

func TestBodiesAreWrittenAsApacheWritesThem(t *testing.T) {
	for name, g := range goldenBodies() {
		write := EncodeBody
		if g.legacy {
			write = fastjson.MarshalLegacy
		}
		got, err := write(g.body)
		if err != nil || string(got) != g.text {
			t.Errorf("%s:\n got %s, %v\nwant %s", name, got, err, g.text)
		}
		back := reflect.New(reflect.TypeOf(g.body).Elem()).Interface()
		if err := DecodeBody([]byte(g.text), back); err != nil {
			t.Errorf("%s: %v", name, err)
		} else if !reflect.DeepEqual(back, g.body) {
			t.Errorf("%s:\nread %+v\nwant %+v", name, back, g.body)
		}
	}
}

// Other spellings that peers use, and members they leave out.
func TestBodySpellings(t *testing.T) {
	tests := []struct {
		text string
		want any
	}{
		{`{"clientID":"c","isWithoutSub":true}`, &HeartbeatData{ClientID: "c", WithoutSub: true}},
		{`{"brokerName":"b","topicSynFlag":3}`, &QueueData{BrokerName: "b", TopicSysFlag: 3}},
		{`{"consumerGroup":"g","topic":"T","retry":"1","startOffset":3,"queueId":1,"reviveQueueId":2,"popTime":4,"invisibleTime":5,"bitSet":"BQI="}`,
			&BatchAck{"g", "T", "1", 3, 1, 2, 4, 5, []byte{5, 2}}},
		{`{"groupName":"cg","consumeType":"consume_pop","messageModel":1,"consumeFromWhere":"?"}`, &ConsumerData{GroupName: "cg", ConsumeType: ConsumePop, MessageModel: Clustering}},
		{`{"topicName":"T"}`, &TopicConfig{TopicName: "T", ReadQueueNums: 16, WriteQueueNums: 16, Perm: 6, TopicFilterType: SingleTag}},
		{`{"topic":"T"}`, &SubscriptionData{Topic: "T", ExpressionType: ExpressionTag}},
		{`{"messageQueue":{"topic":"T"}}`, &MessageQueueAssignment{MessageQueue: &MessageQueue{Topic: "T"}, Mode: ModePull}},
		{`{"exponentialRetryPolicy":{}}`, &GroupRetryPolicy{Type: RetryCustomized, ExponentialRetryPolicy: &ExponentialRetryPolicy{5000, 7200000, 2}}},
		{`{"topic":"T"}`, &SetMessageRequestModeRequestBody{Topic: "T", Mode: ModePull}},
		{`{}`, &ConsumeMessageDirectlyResult{AutoCommit: true}},
		// one subscription object in two groups, as Java writes it
		{`{"consumerDataSet":[{"groupName":"a","subscriptionDataSet":[{"topic":"T"}]},{"groupName":"b","subscriptionDataSet":[{"$ref":"$.consumerDataSet[0].subscriptionDataSet[0]"}]}]}`,
			&HeartbeatData{ConsumerDataSet: []ConsumerData{
				{GroupName: "a", SubscriptionDataSet: []SubscriptionData{{Topic: "T", ExpressionType: ExpressionTag}}},
				{GroupName: "b", SubscriptionDataSet: []SubscriptionData{{Topic: "T", ExpressionType: ExpressionTag}}}}}},
	}
	for _, test := range tests {
		got := reflect.New(reflect.TypeOf(test.want).Elem()).Interface()
		if err := DecodeBody([]byte(test.text), got); err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s:\nread %+v, %v\nwant %+v", test.text, got, err, test.want)
		}
	}
}

// vectorBodies says which struct the JSON bodies of a code are.
func vectorBodies() map[int32][2]any {
	return map[int32][2]any{
		GetAllTopicConfig:                {nil, &TopicConfigAndMappingSerializeWrapper{}},
		GetBrokerRuntimeInfo:             {nil, &KVTable{}},
		HeartBeat:                        {&HeartbeatData{}, nil},
		GetConsumerListByGroup:           {nil, &GetConsumerListByGroupResponseBody{}},
		LockBatchMq:                      {&LockBatchRequestBody{}, &LockBatchResponseBody{}},
		UnlockBatchMq:                    {&LockBatchRequestBody{}, nil},
		CheckClientConfig:                {&CheckClientRequestBody{}, nil},
		UpdateAndCreateSubscriptiongroup: {&SubscriptionGroupConfig{}, nil},
		GetAllSubscriptiongroupConfig:    {nil, &SubscriptionGroupWrapper{}},
		GetTopicStatsInfo:                {nil, &TopicStatsTable{}},
		GetConsumerConnectionList:        {nil, &ConsumerConnection{}},
		GetProducerConnectionList:        {nil, &ProducerConnection{}},
		GetConsumeStats:                  {nil, &ConsumeStats{}},
		InvokeBrokerToResetOffset:        {nil, &ResetOffsetBody{}},
		ResetConsumerClientOffset:        {&ResetOffsetBody{}, nil},
		QueryTopicConsumeByWho:           {nil, &GroupList{}},
		GetSystemTopicListFromBroker:     {nil, &TopicList{}},
		GetConsumerRunningInfo:           {nil, &ConsumerRunningInfo{}},
		ViewBrokerStatsData:              {nil, &BrokerStatsData{}},
		GetBrokerConsumeStats:            {nil, &ConsumeStatsList{}},
		QueryConsumeQueue:                {nil, &QueryConsumeQueueResponseBody{}},
		RegisterBroker:                   {&RegisterBrokerBody{}, nil},
		GetRouteinfoByTopic:              {nil, &TopicRouteData{}},
		GetBrokerClusterInfo:             {nil, &ClusterInfo{}},
		GetAllTopicListFromNameserver:    {nil, &TopicList{}},
	}
}

// Every recorded JSON body is read, and written again with everything the original had.
func TestVectorBodies(t *testing.T) {
	kinds := vectorBodies()
	seen := 0
	for i, v := range readVectors(t) {
		for side, f := range []*vectorFrame{v.Request, v.Response} {
			if f == nil || f.BodyLen == 0 || f.body()[0] != '{' {
				continue
			}
			seen++
			kind := kinds[v.Code][side]
			if kind == nil {
				t.Errorf("vector %d: code %d has a body on side %d that no struct is named for", i, v.Code, side)
				continue
			}
			first := reflect.New(reflect.TypeOf(kind).Elem()).Interface()
			if err := DecodeBody(f.body(), first); err != nil {
				t.Errorf("vector %d: %v", i, err)
				continue
			}
			text, err := fastjson.MarshalLegacy(first)
			if err != nil {
				t.Errorf("vector %d: %v", i, err)
				continue
			}
			for _, lost := range missing(parseLoose(t, f.body()), parseLoose(t, text), "") {
				t.Errorf("vector %d (%s): lost %s", i, RequestName(v.Code), lost)
			}
		}
	}
	if seen < 40 {
		t.Errorf("%d bodies seen, want at least 40", seen)
	}
}

// parseLoose reads a body with the standard library, its integer and object keys put in quotes.
func parseLoose(t *testing.T, body []byte) any {
	t.Helper()
	var out bytes.Buffer
	for i := 0; i < len(body); i++ {
		c := body[i]
		after := bytes.TrimRight(out.Bytes(), " ")
		keyHere := len(after) > 0 && (after[len(after)-1] == '{' || after[len(after)-1] == ',')
		end := -1
		if keyHere && c == '{' { // an object right after { or , and before : is a key
			if n := bytes.IndexByte(body[i:], '}'); i+n+1 < len(body) && body[i+n+1] == ':' && bytes.IndexByte(body[i+1:i+n], '{') < 0 {
				end = i + n + 1
			}
		}
		if keyHere && c >= '0' && c <= '9' {
			n := i
			for body[n] >= '0' && body[n] <= '9' {
				n++
			}
			if body[n] == ':' {
				end = n
			}
		}
		if end < 0 {
			out.WriteByte(c)
			continue
		}
		key, _ := json.Marshal(string(body[i:end]))
		out.Write(key)
		i = end - 1
	}
	var v any
	if err := json.Unmarshal(out.Bytes(), &v); err != nil {
		t.Fatalf("%v in %.300s", err, out.Bytes())
	}
	return v
}

// missing lists what of want is not in got.
func missing(want, got any, path string) []string {
	switch want := want.(type) {
	case map[string]any:
		g, _ := got.(map[string]any)
		var out []string
		for key, w := range want {
			out = append(out, missing(w, g[key], path+"."+key)...)
		}
		sort.Strings(out)
		return out
	case []any:
		g, _ := got.([]any)
		if len(g) != len(want) {
			return []string{fmt.Sprintf("%s: %d of %d elements", path, len(g), len(want))}
		}
		var out []string
		for i := range want {
			out = append(out, missing(want[i], g[i], fmt.Sprintf("%s[%d]", path, i))...)
		}
		return out
	default:
		if fmt.Sprint(want) != fmt.Sprint(got) { // Go clients write some numbers as text
			return []string{fmt.Sprintf("%s: %v became %v", path, want, got)}
		}
		return nil
	}
}

// benchRoute is the route of a topic on eight broker groups of two replicas.
func benchRoute() *TopicRouteData {
	route := &TopicRouteData{FilterServerTable: map[string][]string{}}
	for i := range 8 {
		name := fmt.Sprintf("broker-%d", i)
		route.QueueDatas = append(route.QueueDatas, QueueData{BrokerName: name, ReadQueueNums: 8, WriteQueueNums: 8, Perm: 6})
		route.BrokerDatas = append(route.BrokerDatas, BrokerData{Cluster: "DefaultCluster", BrokerName: name,
			BrokerAddrs: map[int64]string{0: "192.168.100.1:10911", 1: "192.168.100.2:10911"}})
	}
	return route
}

func BenchmarkEncodeRoute(b *testing.B) {
	route := benchRoute()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := EncodeBody(route); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeHeartbeat(b *testing.B) {
	text := []byte(goldenBodies()["HeartbeatData"].text)
	b.ReportAllocs()
	for b.Loop() {
		var heartbeat HeartbeatData
		if err := DecodeBody(text, &heartbeat); err != nil {
			b.Fatal(err)
		}
	}
}
