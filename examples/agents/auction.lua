-- A sealed-bid auction: a seller and two bidders, each a task of its own, in the mode ext.auction.v1 (modes/auction).
-- Bids are sealed as digests first and opened when nobody can change them any more.
--
--   macp dev --no-demo                       in one terminal
--   macp run examples/agents/auction.lua     in another
--
-- Arguments: the runtime's address (127.0.0.1:50051), the pause between messages in milliseconds (0).

local crypto = require("host.crypto")
local task = require("host.task")
local macp = require("macp.sdk")

local target, pause_ms = ...
target, pause_ms = target or "127.0.0.1:50051", tonumber(pause_ms) or 0

local MODE = "ext.auction.v1"
local BIDS = { ana = 120, ben = 135 }
local PATIENCE_MS = 60000 -- an auction that nobody carries on is given up

local function say(name, text) print(string.format("%-6s %s", name, text)) end

local function agent(name)
  return macp.client({ target = target, allow_insecure = true, auth = macp.auth.for_dev_agent(name) })
end

-- A bidder seals when the lot is open, and shows its bid when the sealing is over.
local function bid(name, session_id)
  local client = agent(name)
  local session = client:session(MODE, { session_id = session_id })
  local amount, nonce = BIDS[name], crypto.hex(crypto.random(16))
  session:follow(function(envelope, payload)
    task.sleep(pause_ms)
    if envelope.message_type == "Open" then
      session:seal({ digest = crypto.sha256_hex(amount .. ":" .. nonce) })
      say(name, "seals a bid")
    elseif envelope.message_type == "Advance" and payload.to == "revealing" then
      session:reveal({ amount = amount, nonce = nonce })
      say(name, "reveals " .. amount)
    end
  end, { timeout_ms = PATIENCE_MS })
  session:close()
  client:close()
end

-- Whether every bidder has sealed (revealed) a bid, as the local copy of the session shows it.
local function count_bids(session, is_revealed)
  local count = 0
  for _, entry in ipairs(session:view().board) do
    if entry.amount or not is_revealed then count = count + 1 end
  end
  return count
end

-- The seller opens the lot, moves on when all have sealed and again when all have revealed, and sells to the best bid.
local function sell(session)
  session:open({ lot_id = "lamp", title = "A reading lamp" })
  say("seller", "opens the lot: a reading lamp")
  session:follow(function(envelope)
    if envelope.message_type == "Seal" and count_bids(session) == 2 then
      task.sleep(pause_ms)
      session:advance({ to = "revealing" })
      say("seller", "ends the sealing")
    elseif envelope.message_type == "Reveal" and count_bids(session, true) == 2 then
      session:advance({ to = "closed" })
    end
    return session:view().phase ~= "closed"
  end, { timeout_ms = PATIENCE_MS })
  local winner = session:view().winner
  session:commit({
    action = "auction.accepted", authority_scope = "sale", reason = winner.bidder .. " bids " .. winner.amount,
  })
  say("seller", "sells to " .. winner.bidder .. " for " .. winner.amount)
end

local client = agent("seller")
local session = client:session(MODE)
session:start({ intent = "sell a reading lamp", participants = { "seller", "ana", "ben" }, ttl_ms = 10 * 60 * 1000 })
say("seller", "starts session " .. session.session_id)

local ok, err = task.group(function(group)
  for name in pairs(BIDS) do group:spawn(bid, name, session.session_id) end
  group:spawn(sell, session)
end)
session:close()
client:close()
if not ok then error(tostring(err.message or err), 0) end
return 0
