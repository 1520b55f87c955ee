return {
  render = function(s)
    local board = {}
    for who, b in pairs(s.bids) do board[#board + 1] = { bidder = who, amount = b.amount } end
    table.sort(board, function(x, y)
      if (x.amount or 0) ~= (y.amount or 0) then return (x.amount or 0) > (y.amount or 0) end
      return x.bidder < y.bidder
    end)
    return { lot = s.lot, phase = s.phase, board = board, winner = s.winner }
  end,
  summary = function(s) return s.winner and ("won by " .. s.winner.bidder) or s.phase end,
}
