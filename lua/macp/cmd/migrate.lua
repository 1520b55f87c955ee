-- `macp migrate`: brings the database to the schema of this program.

local console = require("macp.core.console")
local migrate = require("macp.store.migrate")
local redact = require("macp.telemetry.redact")

local M = {
  summary = "Bring the database to this program's schema.",
  help = [[
  macp migrate                      apply what is missing
  macp migrate --status             tell what is missing, change nothing (exit code 1 when something is)
  DATABASE_URL=postgres://user:password@host/name macp migrate

Several processes may run it at the same time: a lock makes each file run once. Processes of the version before may go
on meanwhile: indexes of large tables are built beside the writers, and other changes wait until a table is free.]],
  options = { { name = "status", doc = "Only tell what would be done." } },
}

local function show_status(db)
  local status, err = migrate.status(db)
  if status == nil then return nil, err end
  console.print(string.format("%d applied, %d missing", status.applied, #status.pending))
  for _, file in ipairs(status.pending) do console.print("  " .. file.name) end
  return #status.pending == 0 and 0 or 1
end

local function apply(db)
  local names, err = migrate.run(db)
  if names == nil then return nil, err end
  for _, name in ipairs(names) do console.print("applied " .. name) end
  if #names == 0 then console.print("nothing to do: the database is at the current schema") end
  return 0
end

---(yields)
function M.run(opts, cfg)
  local url = cfg.plane.database_url
  local db, err = migrate.open(url, "macp migrate")
  if db == nil then return nil, err end
  local code
  code, err = (opts.status and show_status or apply)(db)
  db:close()
  if code == nil then
    return nil, { code = err.code, message = redact.url(url) .. ": " .. tostring(err.message) }
  end
  return code
end

return M
