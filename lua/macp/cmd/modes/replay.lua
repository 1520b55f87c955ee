-- `macp modes replay`: `macp sessions replay`, with the state of the mode after each record.

local replay = require("macp.cmd.sessions.replay")

local M = {
  summary = "Step through a recorded session with its bound revision.",
  help = [[
  macp modes replay ID                          every record, the state after it and its hash
  macp modes replay ID --json                   one JSON object per record

The session is taken from the store that the settings name (MACP_DATA_DIR); no runtime may serve it meanwhile. It runs
under the revision it started with, whatever the folder holds now. `macp sessions replay` does without the states.]],
  options = { { name = "json", doc = "Print JSON lines." } },
  arguments = { { name = "ID", required = true, doc = "Session id." } },
}

---(yields)
function M.run(opts, cfg) return replay.run({ args = opts.args, json = opts.json, state = true }, cfg) end

return M
