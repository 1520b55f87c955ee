-- `macp sessions`: looks into the store of a runtime that is stopped.

return {
  summary = "Look into a runtime's store: list, show, replay, verify, export.",
  help = [[
  macp sessions list                            what is stored, newest first
  macp sessions list --state open --mode ext.auction.v1
  macp sessions show ID                         participants, policy, what happened
  macp sessions replay ID                       plays it again, message by message, with the hash of every state
  macp sessions verify                          reads and replays everything; exit code 1 when something is wrong
  macp sessions export ID > session.jsonl       its history as JSON lines

The store is the one the settings name: MACP_DATA_DIR, MACP_STORAGE_BACKEND (`macp config runtime`). A store has one
process at a time: stop the runtime first, or name a copy of its directory. While it runs, GetSession, ListSessions and
StreamSession show the same.]],
  verbs = { "list", "show", "replay", "verify", "export" },
  config = false,
}
