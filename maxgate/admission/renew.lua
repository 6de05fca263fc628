-- Renews one holder's lease of the slots of a model, or gives it back.
--
-- The rules are those of lease_table.py and ledger.py; tests/contract compares them. One key has
-- everything about a model. Times are those of the Redis server, in seconds.
--
-- KEYS: the model's key. ARGV: holder; to renew also lease time, seconds for which served tokens
-- are remembered, maximum number of tenants, name of the shared tenant, headroom, maximum
-- capacity, duration of a turn, held slots, capacity, slots in use, and then tenant, demand and served tokens of each tenant.
-- Returns slots, capacity, 1 if the holder leads, even share, slots that no holder has, and then each
-- tenant and its tokens.

local FORMAT = 1
local MICRO = 1000000
local GOLDEN = 618034

local function load_state()
  local content = redis.call('GET', KEYS[1])
  if content then
    local ok, state = pcall(cmsgpack.unpack, content)
    if ok and type(state) == 'table' and state.format == FORMAT then
      return state
    end
  end
  return {format = FORMAT, leases = {}, served = {}, settles_at = 0}
end

local function sorted_keys(map)
  local keys = {}
  for key in pairs(map) do
    keys[#keys + 1] = key
  end
  table.sort(keys)
  return keys
end

local function drop_expired(state, now, lease_time, served_time)
  for holder, lease in pairs(state.leases) do
    if not (now < lease.expires_at and lease.expires_at <= now + lease_time) then
      state.leases[holder] = nil
    end
  end
  for tenant, total in pairs(state.served) do
    if not (now - served_time < total[2] and total[2] <= now) then
      state.served[tenant] = nil
    end
  end
  if state.settles_at > now + lease_time then
    state.settles_at = 0
  end
end

-- Returns the demand and served tokens of the report, with tenants beyond the maximum as one.
local function fold_tenants(state, first, max_tenants, shared)
  local known, count = {}, 0
  local function learn(map)
    for tenant in pairs(map) do
      if not known[tenant] then
        known[tenant], count = true, count + 1
      end
    end
  end
  learn(state.served)
  for _, lease in pairs(state.leases) do
    learn(lease.demand)
  end
  local demand, served = {}, {}
  for i = first, #ARGV, 3 do
    local tenant, requests, tokens = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
    if not known[tenant] then
      if count < max_tenants then
        known[tenant], count = true, count + 1
      else
        tenant = shared
      end
    end
    if requests > 0 then
      demand[tenant] = (demand[tenant] or 0) + requests
    end
    if tokens > 0 then
      served[tenant] = (served[tenant] or 0) + tokens
    end
  end
  return demand, served
end

local function find_water_level(capacity, totals)
  local counts = {}
  for _, total in pairs(totals) do
    counts[#counts + 1] = total
  end
  table.sort(counts)
  local rest, left = capacity, #counts
  for _, total in ipairs(counts) do
    if total * left >= rest then
      return rest / left
    end
    rest, left = rest - total, left - 1
  end
  return math.huge
end

-- Rounds to integers that sum to the capacity, by largest remainders, then by id.
local function round(capacity, exact)
  local slots, remainders, missing = {}, {}, capacity
  local order = sorted_keys(exact)
  for _, holder in ipairs(order) do
    local micro = math.floor(exact[holder] * MICRO + 0.5)
    slots[holder] = math.floor(micro / MICRO)
    remainders[holder] = micro % MICRO
    missing = missing - slots[holder]
  end
  table.sort(order, function(a, b)
    if remainders[a] ~= remainders[b] then
      return remainders[a] > remainders[b]
    end
    return a < b
  end)
  for i = 1, math.min(missing, #order) do
    slots[order[i]] = slots[order[i]] + 1
  end
  return slots
end

local function feed_the_empty(holders, wanted, slots)
  for _, holder in ipairs(holders) do
    if wanted[holder] > 0 and slots[holder] == 0 then
      local richest = holders[1]
      for _, other in ipairs(holders) do
        if slots[other] > slots[richest] then
          richest = other
        end
      end
      slots[richest] = slots[richest] - 1
      slots[holder] = 1
    end
  end
end

-- Rounds to integers with the same sum, which have the exact mean over many turns.
local function take_turns(holders, exact, turn)
  local slots, line_end, before = {}, 0, 0
  local mark = turn * GOLDEN % MICRO
  for _, holder in ipairs(holders) do
    line_end = line_end + exact[holder]
    local marks = math.max(0, math.ceil((math.floor(line_end * MICRO + 0.5) - mark) / MICRO))
    slots[holder] = marks - before
    before = marks
  end
  return slots
end

local function allocate(capacity, leases, headroom, turn)
  local holders, wanted, totals = sorted_keys(leases), {}, {}
  local busy, free = 0, capacity
  for _, holder in ipairs(holders) do
    wanted[holder] = 0
    for tenant, requests in pairs(leases[holder].demand) do
      wanted[holder] = wanted[holder] + requests
      totals[tenant] = (totals[tenant] or 0) + requests
    end
    busy = busy + (wanted[holder] > 0 and 1 or 0)
    free = free - wanted[holder]
  end
  if free >= 0 then
    local reserve = math.floor(free * headroom)
    local idle = reserve >= #holders and 1 or 0
    local extra = busy > 0 and math.floor((reserve - idle * (#holders - busy)) / busy) or 0
    for holder, requests in pairs(wanted) do
      wanted[holder] = requests > 0 and requests + extra or idle
    end
    return wanted
  end
  local level, exact = find_water_level(capacity, totals), {}
  for _, holder in ipairs(holders) do
    exact[holder] = 0
    for tenant, requests in pairs(leases[holder].demand) do
      exact[holder] = exact[holder] + requests * math.min(1, level / totals[tenant])
    end
  end
  if capacity < busy then
    return take_turns(holders, exact, turn)
  end
  local slots = round(capacity, exact)
  feed_the_empty(holders, wanted, slots)
  return slots
end

local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1000000
local state = load_state()
local holder = ARGV[1]

if #ARGV == 1 then
  if state.leases[holder] then
    state.leases[holder] = nil
    redis.call('SET', KEYS[1], cmsgpack.pack(state), 'KEEPTTL')
  end
  return {}
end

local lease_time, served_time = tonumber(ARGV[2]), tonumber(ARGV[3])
local held, own_capacity, in_use = tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])
drop_expired(state, now, lease_time, served_time)

local old = state.leases[holder]
state.leases[holder] = nil
if old then
  held = old.slots
elseif held > 0 then
  state.settles_at = now + lease_time
end

local demand, served = fold_tenants(state, 12, tonumber(ARGV[4]), ARGV[5])
for tenant, tokens in pairs(served) do
  local total = state.served[tenant]
  state.served[tenant] = {tokens + (total and total[1] or 0), now}
end

local reserved = 0
for _, lease in pairs(state.leases) do
  reserved = reserved + math.max(lease.slots, lease.in_use)
end
local lease = {
  expires_at = now + lease_time, in_use = in_use, capacity = own_capacity, demand = demand
}
state.leases[holder] = lease
local holders = sorted_keys(state.leases)
local max_capacity = tonumber(ARGV[7])
local leader = holders[1]
for _, name in ipairs(holders) do
  if state.leases[name].capacity < max_capacity then
    leader = name
    break
  end
end
local capacity = math.min(math.max(0, state.leases[leader].capacity), max_capacity)
local target = held
if now >= state.settles_at then
  local headroom = capacity < max_capacity and tonumber(ARGV[6]) or 0
  local turn = math.floor(now / tonumber(ARGV[8]))
  target = allocate(capacity, state.leases, headroom, turn)[holder]
end
lease.slots = math.max(0, math.min(target, capacity - reserved))
redis.call('SET', KEYS[1], cmsgpack.pack(state), 'PX', math.floor(served_time * 1000))

local reply = {
  lease.slots, capacity, leader == holder and 1 or 0,
  math.max(1, math.floor(capacity / #holders)),
  math.max(0, capacity - reserved - math.max(lease.slots, in_use)),
}
for tenant, total in pairs(state.served) do
  reply[#reply + 1] = tenant
  reply[#reply + 1] = string.format('%.17g', total[1])
end
return reply
