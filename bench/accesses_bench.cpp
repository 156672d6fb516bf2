// Question   What does it cost software to pin pages of an address space, and to read from it?
// Baseline   Linux's own type1 (a mediated device) and iommufd (an access), with locks. Floor of a
//            read: the memcpy.
// Unit       ns per pin and unpin of 1 page at random in 1 GiB, in blocks of 2 MiB, whose addresses are
//            written to an array; of 512 pages likewise; per read of 4 KiB of own memory.
// Expect     few allocations, or none for a page that is held already.
// Tried      the areas' lock, the pages' mutex twice, a record and a map of frames for each pin: 232 ns, and
//            118 where the page is held already; now 98 and 19. A spare record for the next pin: no gain.
#include <cstring>

#include "bench/contenders.hpp"

namespace bench {
namespace {

constexpr std::size_t drawn = 20000;
constexpr std::size_t most_pages = 512;

/// Where to pin, in units of `pages`.
std::vector<uint64_t> draw(uint64_t bytes, uint64_t pages) {
  std::mt19937_64 random(4711);
  std::vector<uint64_t> at(drawn);
  for (uint64_t& a : at) a = random() % (bytes / page / pages) * pages * page;
  return at;
}

enum class held : bool { no, yes };

/// pin(iova, pages) and unpin(iova, pages) of a contender, and first() the address of the first page.
template <class User>
void pin(benchmark::State& state, User& user, uint64_t pages, held h) {
  std::vector<uint64_t> at = draw(gibibyte, pages);
  if (h == held::yes) {
    at.assign(drawn, 7 * page);
    user.pin(far_iova + at[0], pages);
  }
  for (std::size_t n = 0; n < 100; ++n) {
    user.pin(far_iova + at[n], pages);
    for (uint64_t i = 0; i < pages; ++i)
      demand(user.page_at(i) == mock_physical(MOCK_ADDRESS + at[n] + i * page), "frame");
    user.unpin(far_iova + at[n], pages);
  }
  std::size_t n = 0;
  for (auto _ : state) {
    user.pin(far_iova + at[n], pages);
    user.unpin(far_iova + at[n], pages);
    if (++n == drawn) n = 0;
  }
  if (h == held::yes) user.unpin(far_iova + at[0], pages);
}

/// Memory of this process that is read from, mapped at far_iova.
class own_memory {
 public:
  static constexpr std::size_t bytes = 64 * mebibyte;
  own_memory() : memory_(static_cast<std::byte*>(std::aligned_alloc(2 * mebibyte, bytes))) {
    for (std::size_t n = 0; n < bytes; n += 8) std::memcpy(memory_ + n, &n, 8);
  }
  ~own_memory() { std::free(memory_); }
  own_memory(const own_memory&) = delete;
  own_memory& operator=(const own_memory&) = delete;
  const std::byte* data() const { return memory_; }
  uint64_t address() const { return reinterpret_cast<uint64_t>(memory_); }

 private:
  std::byte* memory_;
};

template <class User>
void read(benchmark::State& state, User& user) {
  static std::byte to[page];
  const std::vector<uint64_t> at = draw(own_memory::bytes, 1);
  std::size_t n = 0;
  for (auto _ : state) {
    user.read(far_iova + at[n], to);
    uint64_t first, last;
    std::memcpy(&first, to, 8);
    std::memcpy(&last, to + page - 8, 8);
    demand(first == at[n] && last == at[n] + page - 8, "read");
    if (++n == drawn) n = 0;
  }
}

class our_user {
 public:
  using table = ours<page_array_pinner, plain_domain, multi_threaded>;
  explicit our_user(std::optional<entries> e)
      : on(e),
        access_([](void* leaving,
                   iopt::iova_range) { demand(*static_cast<bool*>(leaving), "unmap of pinned"); },
                &leaving_) {
    demand(access_.attach(on.table).has_value(), "attach");
  }
  ~our_user() { leave(); }
  void pin(uint64_t iova, uint64_t pages) {
    std::size_t told = 0;
    const auto tell = [&](iopt::run r) {
      for (uint64_t n = 0; n < r.length_bytes; n += page) pages_[told++] = r.first.value + n;
    };
    demand(access_.pin(iopt::iova_range::sized({iova}, pages * page),
                       iopt::access_rights::read_write, tell)
                   .has_value() &&
               told == pages,
           "pin");
  }
  void unpin(uint64_t iova, uint64_t pages) {
    access_.unpin(iopt::iova_range::sized({iova}, pages * page));
  }
  uint64_t page_at(std::size_t n) const { return pages_[n]; }
  void read(uint64_t iova, std::span<std::byte> to) {
    demand(access_.read({iova}, to).has_value(), "read");
  }

  table on;

 private:
  /// detach() tells the holder of the whole space; here it holds nothing.
  void leave() {
    leaving_ = true;
    access_.detach();
  }
  bool leaving_ = false;
  table::access_type access_;
  uint64_t pages_[most_pages];
};

#ifdef IOPT_BENCH_LINUX
class type1_user {
 public:
  explicit type1_user(std::optional<entries> e) : on(linux_locked, e) {
    demand(on.peer().type1_attach_emulated(on.container(), &group_) == 0, "attach");
  }
  void pin(uint64_t iova, uint64_t pages) {
    demand(on.peer().type1_pin(on.container(), &group_, iova, static_cast<int>(pages), pages_) == 0,
           "pin");
  }
  void unpin(uint64_t iova, uint64_t pages) {
    on.peer().type1_unpin(on.container(), iova, static_cast<int>(pages));
  }
  uint64_t page_at(std::size_t n) const { return on.peer().frame(pages_[n]) * page; }
  void read(uint64_t iova, std::span<std::byte> to) {
    demand(on.peer().type1_read(on.container(), iova, to.data(), to.size()) == 0, "read");
  }
  type1 on;

 private:
  linux_group group_{1, 0, nullptr};
  void* pages_[most_pages];
};

class iommufd_user {
 public:
  explicit iommufd_user(std::optional<entries> e)
      : on(linux_locked, e), access_(on.peer().iommufd_user_create(on.table())) {}
  ~iommufd_user() { on.peer().iommufd_user_destroy(access_); }
  iommufd_user(const iommufd_user&) = delete;
  iommufd_user& operator=(const iommufd_user&) = delete;
  void pin(uint64_t iova, uint64_t pages) {
    demand(on.peer().iommufd_pin(access_, iova, pages * page, pages_) == 0, "pin");
  }
  void unpin(uint64_t iova, uint64_t pages) {
    on.peer().iommufd_unpin(access_, iova, pages * page);
  }
  uint64_t page_at(std::size_t n) const { return on.peer().frame(pages_[n]) * page; }
  void read(uint64_t iova, std::span<std::byte> to) {
    demand(on.peer().iommufd_read(access_, iova, to.data(), to.size()) == 0, "read");
  }
  iommufd on;

 private:
  void* access_;
  void* pages_[most_pages];
};
#endif

/// Reads memory as it is.
struct bare_user {
  void read(uint64_t iova, std::span<std::byte> to) {
    std::memcpy(to.data(), memory.data() + (iova - far_iova), to.size());
    benchmark::ClobberMemory();
  }
  own_memory memory;
};

template <class User>
void register_user(const std::string& who) {
  for (const auto& [name, e] :
       {std::pair{"no_domain", std::optional<entries>()}, {"domain", entries::large}}) {
    struct kind {
      const char* name;
      uint64_t pages;
      held h;
    };
    for (const kind k :
         {kind{"1", 1, held::no}, kind{"1_held", 1, held::yes}, kind{"512", 512, held::no}}) {
      add("pin_" + std::string(k.name) + "_" + name + "/" + who, [e, k](benchmark::State& state) {
        use_layout(MOCK_BLOCKS);
        {
          User user(e);
          user.on.map(far_iova, MOCK_ADDRESS, gibibyte);
          pin(state, user, k.pages, k.h);
          user.on.unmap(far_iova, gibibyte);
        }
        demand(mock_pinned() == 0, "pins are left");
      });
    }
  }
  add("read/" + who, [](benchmark::State& state) {
    const own_memory memory;
    User user(std::nullopt);
    user.on.map(far_iova, memory.address(), own_memory::bytes);
    read(state, user);
    user.on.unmap(far_iova, own_memory::bytes);
  });
}

[[maybe_unused]] const bool registered = [] {
  register_user<our_user>("iopt");
  add("read/bare", [](benchmark::State& state) {
    bare_user user;
    read(state, user);
  });
#ifdef IOPT_BENCH_LINUX
  register_user<type1_user>("type1");
  register_user<iommufd_user>("iommufd");
#endif
  return true;
}();

}  // namespace
}  // namespace bench
