-- Sealed-bid auction: one lot, bids sealed as digests, opened, highest bid wins.
local macp = require "macp"

local function in_phase(name)
  return { "the auction is " .. name, function(s) return s.phase == name end }
end

local function best(s)                       -- highest amount; the earliest seal wins a tie
  local win
  for who, b in pairs(s.bids) do
    if b.amount and (not win or b.amount > win.amount
        or b.amount == win.amount and b.sealed_at < win.sealed_at) then
      win = { bidder = who, amount = b.amount, sealed_at = b.sealed_at }
    end
  end
  return win
end

return {
  id      = "ext.auction.v1",
  version = "1.0.0",
  title   = "Sealed-bid auction",
  summary = "One lot; bids are sealed, then revealed; the highest bid wins.",

  participants = { model = "orchestrated", min = 1 },
  determinism  = "semantic-deterministic",

  state = { phase = "new", bids = {} },

  messages = {
    Open = {
      from    = "initiator",
      payload = [[
        string lot_id    = 1 [required];
        string title     = 2;
        int64  seal_ms   = 3 [min = 1000, default = 60000];
        int64  reveal_ms = 4 [min = 1000, default = 60000];
      ]],
      needs = { in_phase "new" },
      apply = function(s, p, by, c)
        s.phase, s.lot = "sealing", { id = p.lot_id, title = p.title }
        s.seal_until   = c.t + p.seal_ms
        s.reveal_until = c.t + p.seal_ms + p.reveal_ms
      end,
    },

    Seal = {
      from    = "participant",
      payload = [[ string digest = 1 [required]; ]],   -- sha256("<amount>:<nonce>")
      needs = {
        in_phase "sealing",
        { "the seller does not bid",  function(s, p, by, c) return by ~= c.initiator end, "FORBIDDEN" },
        { "one bid per participant",  function(s, p, by) return not s.bids[by] end },
      },
      apply = function(s, p, by, c) s.bids[by] = { digest = p.digest, sealed_at = c.seq } end,
    },

    Reveal = {
      from    = "participant",
      payload = [[
        int64  amount = 1 [min = 1];
        string nonce  = 2 [required];
      ]],
      needs = {
        in_phase "revealing",
        { "the sender sealed a bid",  function(s, p, by) return s.bids[by] ~= nil end, "FORBIDDEN" },
        { "the bid matches its seal", function(s, p, by)
            return macp.sha256(macp.int(p.amount) .. ":" .. p.nonce) == s.bids[by].digest
          end },
      },
      apply = function(s, p, by) s.bids[by].amount = p.amount end,
    },

    Advance = {                                   -- sent by the seller, or by the clock
      from    = { "initiator", "runtime" },
      payload = [[ string to = 1 [in = "revealing|closed"]; ]],
      needs = {
        { "phases advance in order", function(s, p)
            return s.phase == "sealing" and p.to == "revealing"
                or s.phase == "revealing" and p.to == "closed"
          end },
      },
      apply = function(s, p)
        s.phase = p.to
        if p.to == "closed" then s.winner = best(s) end
      end,
    },
  },

  timers = {
    advance = {
      due = function(s)
        if s.phase == "sealing"   then return s.seal_until end
        if s.phase == "revealing" then return s.reveal_until end
      end,
      emit = function(s, c)
        local to = s.phase == "sealing" and "revealing" or "closed"
        return { type = "Advance", sender = c.initiator, key = to, payload = { to = to } }
      end,
    },
  },

  outcomes = {
    { action = "auction.accepted", positive = true,
      when = function(s) return s.phase == "closed" and s.winner ~= nil end },
    { action = "auction.failed",   positive = false,
      when = function(s) return s.phase == "closed" end },
  },

  policy = {
    rules = {
      ["auction.reserve"]     = { type = "integer", min = 0, default = 0 },
      ["auction.min_bidders"] = { type = "integer", min = 0, default = 0 },
    },
    evaluate = function(s, d, c)
      local r, n = c.rules.auction, macp.count(s.bids)
      if d.positive and s.winner.amount < r.reserve then
        d.deny("the best bid %d is below the reserve %d", s.winner.amount, r.reserve)
      end
      if d.positive and n < r.min_bidders then
        d.deny("%d bidders, at least %d required", n, r.min_bidders)
      end
    end,
  },
}
