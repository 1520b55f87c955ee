-- `macp modes`: make, check and document coordination modes. No database, no network.

return {
  summary = "Make, check and document coordination modes.",
  help = [[
  macp modes new lottery                a folder with a mode, a view and a fixture that passes
  macp modes check modes/lottery        validate, play the fixtures, walk at random
  macp modes diff modes/lottery --against old/lottery    what behaves differently
  macp modes replay ID                  a recorded session, step by step
  macp modes play modes/lottery         type messages, watch the state
  macp modes doc modes/lottery          who may send what, payloads, refusals, outcomes, policy (Markdown)
  macp modes proto modes/lottery        the .proto of its payloads, for agents in other languages

A mode is a folder; mode.lua alone is complete. modes/README.md explains the contract by example.]],
  verbs = { "new", "check", "diff", "replay", "doc", "proto", "play" },
  config = false,
}
