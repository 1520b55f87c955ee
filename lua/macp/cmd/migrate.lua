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
on meanwhile: indexes of large tables are built beside the writers, and other changes wait until a table is free.

Where the extension pg_trgm can neither be found nor created, its indexes are left out, and searches of runs are slower.
Once the extension is there, the next `macp migrate` builds them.]],
  options = { { name = "status", doc = "Only tell what would be done." } },
}

local function tell_missing(index)
  console.print(string.format("without the index %s, which needs the extension %s: searches are slower",
    index.name, index.extension))
end

-- What could not be built before may be now. (yields)
local function complete(db)
  local missing, err = migrate.missing(db)
  if missing == nil then return nil, err end
  local done, complete_err = migrate.complete(db, missing)
  if done == nil then return nil, complete_err end
  for _, name in ipairs(done.built) do console.print("built the index " .. name) end
  if done.remedy then
    for _, index in ipairs(missing) do tell_missing(index) end
    console.print("to have it, " .. done.remedy .. ", then run `macp migrate` again")
  end
  return #done.built
end

local function show_status(db)
  local status, err = migrate.status(db)
  if status == nil then return nil, err end
  console.print(string.format("%d applied, %d missing", status.applied, #status.pending))
  for _, file in ipairs(status.pending) do console.print("  " .. file.name) end
  if #status.pending > 0 then return 1 end
  local missing, missing_err = migrate.missing(db)
  if missing == nil then return nil, missing_err end
  for _, index in ipairs(missing) do tell_missing(index) end
  return 0
end

local function apply(db)
  local names, err = migrate.run(db)
  if names == nil then return nil, err end
  for _, name in ipairs(names) do console.print("applied " .. name) end
  local built, complete_err = complete(db)
  if built == nil then return nil, complete_err end
  if #names + built == 0 then console.print("nothing to do: the database is at the current schema") end
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
    local advice = err.code == "UNAVAILABLE" and " DATABASE_URL names the database." or ""
    return nil, { code = err.code, message = redact.url(url) .. ": " .. tostring(err.message) .. advice }
  end
  return code
end

return M
