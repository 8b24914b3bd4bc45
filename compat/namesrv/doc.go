// Package namesrv is the name server: which broker groups exist, at which addresses their replicas are reached, and
// which topics they serve. RouteTable is that knowledge as a plain data structure; NameServer answers requests from it;
// KVConfig is the one part that is kept on disk.
//
// Name servers know nothing of each other. Everything in the table comes from brokers, which register with each name
// server every 30 s, so a name server that starts empty is complete within one such period.
//
// Locks: RouteTable.mu, groupMemory.mu, KVConfig.mu and settings.mu are taken last and alone. NameServer.wipesMu is held while RouteTable.mu
// and then KVConfig.mu are taken, minIDNotifier.mu and heldRoutes.mu while RouteTable.mu is.
package namesrv
