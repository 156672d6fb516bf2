// tests/vm/script_drawing.hpp - scripts of ioctls, drawn at random, in the language of tests/vectors.
//
// A script is drawn line by line while the library answers it, so that what is drawn next lies where
// something is mapped, or nearly. Its kind, the name's part before the seed, says what it is for:
//
//   type1v1 type1v2 dirty vaddr limit_v1 limit_v2 memlock_v1 memlock_v2      on VFIO's container
//   compat_v1 compat_v2 compat_memlock_v1 compat_memlock_v2, with _domain    on /dev/iommu
//   ioas0 ioas1 ioas2 ioas_memlock
//
// and how: `_deep`, with few invalid requests; `_edges`, with much at the ends of everything, domains that
// come and go, and memory that changes its protection; `_raw`, with requests as words, the fields of a struct
// and what is reserved.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "iopt/base/page_sizes.hpp"
#include "tests/uapi/script_line.hpp"

namespace iopt::test {

inline constexpr std::array native_kinds = {
    "type1v1",       "type1v1_deep",    "type1v1_edges",   "type1v2",          "type1v2_deep",
    "type1v2_edges", "dirty",           "dirty_deep",      "dirty_edges",      "vaddr",
    "vaddr_deep",    "vaddr_edges",     "limit_v1_deep",   "limit_v2_deep",    "limit_v2_edges",
    "memlock_v1",    "memlock_v1_deep", "memlock_v2_deep", "memlock_v2_edges", "type1v1_raw",
    "type1v2_raw"};
inline constexpr std::array iommufd_kinds = {"compat_v1",
                                             "compat_v1_deep",
                                             "compat_v1_edges",
                                             "compat_v2",
                                             "compat_v2_deep",
                                             "compat_v2_edges",
                                             "compat_v1_domain",
                                             "compat_v1_domain_deep",
                                             "compat_v1_domain_edges",
                                             "compat_v2_domain",
                                             "compat_v2_domain_deep",
                                             "compat_v2_domain_edges",
                                             "compat_memlock_v1_domain_deep",
                                             "compat_memlock_v2_domain",
                                             "ioas0",
                                             "ioas0_deep",
                                             "ioas0_edges",
                                             "ioas1",
                                             "ioas1_deep",
                                             "ioas1_edges",
                                             "ioas2",
                                             "ioas2_deep",
                                             "ioas2_edges",
                                             "ioas_memlock_deep",
                                             "ioas_memlock_edges",
                                             "compat_v2_domain_raw",
                                             "ioas0_raw",
                                             "ioas2_raw"};

class script_drawing {
 public:
  /// Given a line, what the library answers.
  using answerer = std::function<std::string(const std::string&)>;

  script_drawing(std::string_view kind, std::uint64_t seed, answerer answer)
      : kind_(kind),
        answer_(std::move(answer)),
        random_(seed),
        native_(is("type1") || is("dirty") || is("vaddr") || is("limit") ||
                kind.starts_with("memlock")),
        compat_(is("compat")),
        deep_(has("_deep")),
        edges_(has("_edges")),
        raw_(has("_raw") ? 50
             : deep_     ? 1
                         : 4),
        domains_(native_ || has("_domain") || has("ioas1") || has("ioas2") || has("ioas_memlock")),
        whole_pages_(compat_ ? edges_ && has("_v1") : !native_ && percent(30)),
        crowded_(!native_ && !deep_ && !whole_pages_ && percent(40)) {}

  void draw(std::size_t lines) {
    if (native_)
      begin_native();
    else
      begin_iommufd();
    while (drawn_ < lines) {
      if (native_)
        draw_native();
      else if (compat_)
        draw_compat();
      else
        draw_ioas();
    }
  }

 private:
  struct place {
    std::uint64_t space;
    std::uint64_t iova;
    std::uint64_t bytes;
  };

  static constexpr std::uint64_t page = 4096;
  static constexpr std::uint64_t top = ~std::uint64_t{0};

  bool is(std::string_view what) const { return kind_.starts_with(what); }
  bool has(std::string_view what) const { return kind_.find(what) != kind_.npos; }

  // What chance has to say.

  std::uint64_t below(std::uint64_t n) { return random_() % n; }
  std::uint64_t between(std::uint64_t least, std::uint64_t most) {
    return least + below(most - least + 1);
  }
  bool percent(std::uint64_t n) { return below(100) < n; }
  /// Something unusual: seldom where the script is to get deep.
  bool odd() { return percent(deep_ ? 3 : edges_ ? 25 : 12); }
  std::uint64_t one_of(std::initializer_list<std::uint64_t> all) {
    return all.begin()[below(all.size())];
  }

  std::string say(const std::string& line) {
    ++drawn_;
    return answer_(line);
  }
  template <class... Numbers>
  std::string say(std::string_view op, Numbers... numbers) {
    std::string line(op);
    ((line += " " + word(numbers)), ...);
    return say(line);
  }
  static std::string word(std::uint64_t n) { return n < 10 ? std::to_string(n) : hex(n); }
  static bool worked(const std::string& answer) { return answer.starts_with("0"); }
  static std::uint64_t told(const std::string& answer, std::string_view key) {
    const std::size_t at = answer.find(key);
    return at == answer.npos ? 0 : std::strtoull(answer.c_str() + at + key.size(), nullptr, 0);
  }

  // Numbers.

  /// Where the space of a script begins, or is not far from its end.
  std::uint64_t base() {
    if (native_ || !domains_)
      return percent(93) ? 0 : one_of({0xfee00000, 0x7ffff80000, 0x8000000000});
    return percent(93) ? 0x1000000 : one_of({0, 0xf80000, 0x7ff80000, 0x80000000});
  }
  /// What a crowded script counts in, and where its few pages are.
  std::uint64_t unit() const { return domains_ ? 2048 : 1; }
  std::uint64_t start() const { return domains_ ? 0x1000000 : page; }
  std::uint64_t least() const {
    return native_ || whole_pages_ ? page : compat_ ? page : domains_ ? 2048 : 1;
  }
  std::uint64_t extreme() {
    return one_of({0,
                   1,
                   0xfff,
                   page,
                   0x7fffffff,
                   0x80000000,
                   top / 2,
                   top / 2 + 1,
                   top - 2 * page,
                   top - page,
                   top - page + 1,
                   top - 1,
                   top,
                   0xffffffff00000000,
                   0x7fffffffff,
                   0x8000000000,
                   0xfee00000,
                   0xfeeff000,
                   0xfef00000,
                   0xfedff000});
  }
  std::uint64_t crooked(std::uint64_t n) {
    return n + one_of({1, 0x10, 0x80, 0x200, 0x800, 0xfff, 0xc01, top, top - 0xf, top - 0x7ff});
  }
  std::uint64_t fit(std::uint64_t n) const { return whole_pages_ ? n / page * page : n; }
  std::uint64_t iova() { return fit(any_iova()); }
  std::uint64_t any_iova() {
    if (odd() && percent(30)) return extreme();
    if (crowded_ && percent(80)) return start() + below(8 * page / unit()) * unit();
    if (!known_.empty() && percent(25)) {
      const place& p = known_[below(known_.size())];
      return p.iova + one_of({0, 0, page, 0 - page, p.bytes, p.bytes, p.bytes - page, 2048});
    }
    std::uint64_t at = base() + between(0, 0x180) * page;
    if (least() < page && percent(20)) at += below(page / least()) * least();
    return odd() && percent(40) ? crooked(at) : at;
  }
  std::uint64_t bytes() { return fit(any_bytes()); }
  std::uint64_t any_bytes() {
    if (odd() && percent(30)) return extreme();
    if (crowded_ && percent(90))
      return between(1, (percent(90) ? page : 3 * page) / unit()) * unit();
    if (percent(edges_ ? 6 : 1)) return one_of({0x200000, 0x201000, 0x400000, 0x800000, 0x40000});
    std::uint64_t n = between(1, edges_ && percent(30) ? 0x24 : 12) * page;
    if (least() < page && percent(15)) n -= below(page / least()) * least();
    return odd() && percent(40) ? crooked(n) : n;
  }
  /// An offset in the arena, of which the first 32 MiB serve every purpose.
  std::uint64_t memory() { return fit(any_memory()); }
  std::uint64_t any_memory() {
    if (crowded_ && percent(90)) return below(16 * page);
    if (edges_ && percent(40)) return between(0x18, 0x30) * page;  // where protections change
    if (odd() && percent(15)) return one_of({top / 2 + 1, top / 2, top - page + 1, 0x4000000});
    if (odd()) return between(31 * 256 - 8, 65 * 256) * page + (percent(30) ? below(page) : 0);
    const std::uint64_t at = between(0, 0x17ff) * page;
    if (!native_ && percent(20)) return at + one_of({1, 0x80, 0x401, 0x800, 0xfff, 0xc40});
    return odd() && percent(40) ? crooked(at) : at;
  }
  /// A part of something known, or nearly; or anything.
  place part() {
    if (known_.empty() || percent(10)) return {space(), iova(), bytes()};
    const std::size_t n = below(known_.size());
    place p = known_[n];
    switch (below(12)) {
      case 0: p.bytes = std::max(p.bytes / 2 / page * page, least()); break;
      case 1:
        p.iova += page;
        p.bytes -= page;
        break;
      case 2:
        p.iova += page;
        p.bytes = page;
        break;
      case 3:
        p.iova -= page;
        p.bytes += 2 * page;
        break;
      case 4: p.bytes += between(1, 6) * page; break;
      case 5:
        p.iova -= between(1, 4) * page;
        p.bytes += 2 * page;
        break;
      case 6: p.bytes = one_of({page, 2048, 1, 0x200000}); break;
      case 7: {
        const place& q = known_[below(known_.size())];
        if (q.space == p.space && q.iova > p.iova) p.bytes = q.iova + q.bytes - p.iova;
        break;
      }
      default:
        // What goes is then forgotten, mostly.
        if (percent(70)) {
          known_[n] = known_.back();
          known_.pop_back();
        }
    }
    if (odd() && percent(20)) p.iova = crooked(p.iova);
    if (odd() && percent(20)) p.bytes = odd() ? extreme() : crooked(p.bytes);
    return p;
  }
  std::uint64_t space() {
    return odd() && percent(20) ? one_of({7, 9, 0xa, 0xb, 0}) : one_of({1, 1, 2});
  }
  void remember(std::uint64_t in, std::uint64_t at, std::uint64_t n) {
    if (known_.size() < 64)
      known_.push_back({in, at, n});
    else
      known_[below(64)] = {in, at, n};
  }

  // What containers of both sorts are asked.

  void draw_map(std::uint64_t in) {
    std::uint64_t flags = percent(75) ? 3 : one_of({1, 2});
    if (odd()) flags = one_of({0, 4, 5, 7, 8, 0x10});
    const std::uint64_t argsz =
        odd() && percent(40) ? one_of({0, 8, 0x1f, 0x21, 0x28, 0x1000}) : 0x20;
    if (percent(edges_ ? 10 : 2)) return draw_row(in);
    const std::uint64_t at = iova();
    const std::uint64_t n = bytes();
    if (worked(say("map", argsz, flags, memory(), at, n)) || percent(20)) remember(in, at, n);
  }
  /// Mappings in a row, so that an unmap may take several.
  void draw_row(std::uint64_t in) {
    std::uint64_t at = iova();
    for (std::uint64_t left = between(2, 6); left != 0; --left) {
      const std::uint64_t n = between(1, 3) * page;
      say("map", std::uint64_t{0x20}, std::uint64_t{3}, between(0, 0x17ff) * page, at, n);
      remember(in, at, n);
      at += n + one_of({0, 0, page});
    }
  }
  void draw_extension() {
    say("check_ext", percent(90) ? below(12) : one_of({top, 0x80000000, 0x100000001}));
  }
  void draw_info() {
    say("info", percent(70)
                    ? one_of({0x1000, 0x18, 0x78, 0x48})
                    : one_of({0, 0xf, 0x10, 0x14, 0x17, 0x40, 0x47, 0x70, 0x77, 0xa8, 0x100}));
  }
  void draw_set_iommu() {
    const std::uint64_t type = one_of({0, 1, 2, 3, 3, 4, 5, 6, 7, 8, 0x2a, top});
    // Version 1 has large pages off.
    say("set_iommu", compat_ && edges_ && !whole_pages_ && type == 1 ? 3 : type);
  }
  void draw_protection() {
    say("protect", between(0x18, 0x2c) * page, between(1, 4) * page, one_of({0, 1, 3, 3}));
  }
  void draw_unmap() {
    const place p = part();
    const std::uint64_t argsz =
        odd() && percent(40) ? one_of({0, 8, 0x17, 0x19, 0x30, 0x1000}) : 0x18;
    std::uint64_t flags = 0;
    if (odd()) flags = one_of({1, 2, 3, 4, 6, 8, 0x10});
    if (flags == 2 && percent(70)) {
      say("unmap", argsz, flags, std::uint64_t{0}, std::uint64_t{0});
      return;
    }
    say("unmap", argsz, flags, p.iova, p.bytes);
  }

  // Requests as words, those of a struct's fields and more.

  /// A field a letter: `s` the size, `f` flags, `o` an object, `v` an IOVA, `l` a length, `m` memory, `p` a
  /// pointer (never one), `n` a small number, `r` what is reserved, `0` nothing. Those in capitals are of 64 bits.
  struct layout {
    std::uint64_t number;
    std::string_view fields;
  };
  void draw_raw() {
    static constexpr layout vfio[] = {{0x3b70, "s000000000"}, {0x3b71, "sfMVL"}, {0x3b72, "sfVL"},
                                      {0x3b75, "sf"},         {0x3b64, "n"},     {0x3b73, "sf"},
                                      {0x3b74, "sf"},         {0x3b76, "sfVL"},  {0x3b6f, "s"}};
    // Without what needs nested page tables, which the library leaves out.
    static constexpr layout iommufd[] = {
        {0x3b80, "so"},      {0x3b81, "sf0"},         {0x3b82, "sonrP"},     {0x3b83, "sfooLVV"},
        {0x3b84, "sonrP00"}, {0x3b85, "sforMLV"},     {0x3b86, "soVL"},      {0x3b87, "snnoN"},
        {0x3b88, "son"},     {0x3b89, "sfoo0rrrPrr"}, {0x3b8a, "sfonP0r00"}, {0x3b8b, "sfor"},
        {0x3b8f, "sforMLV"}, {0x3b90, "sfor"},        {0x3b92, "sf"},        {0x3bff, "sf"},
        {0x3b7f, "sf"},      {0x3c80, "so"},          {0x80003b80, "so"}};
    const std::span<const layout> all =
        native_ || (compat_ && percent(50)) ? std::span<const layout>(vfio) : iommufd;
    const layout& l = all[below(all.size())];
    std::vector<std::uint64_t> words;
    for (const char c : l.fields) {
      const std::uint64_t n = raw_field(c);
      words.push_back(n & 0xffffffff);
      if (c >= 'A' && c <= 'Z') words.push_back(n >> 32);
    }
    if (l.number == 0x3b87 && !whole_pages_) words[4] |= 1;
    const std::uint64_t size = words.size() * 4;
    words[0] = percent(70) ? size
                           : one_of({0, 4, 8, size - 8, size - 4, size - 1, size + 1, size + 4,
                                     size + 8, 64, 4095, 4096});
    if (l.fields[0] != 's') words[0] = below(4);
    if (percent(10)) words.push_back(one_of({0, 0, 1, 0x80000000}));
    std::string line = "raw " + word(l.number);
    for (const std::uint64_t w : words) line += " " + word(w);
    say(line);
  }
  std::uint64_t raw_field(char c) {
    switch (c) {
      case 'f':
        return percent(70) ? one_of({0, 0, 1, 2, 3, 6, 7}) : one_of({4, 8, 0x10, 0x80000000});
      case 'r': return percent(92) ? 0 : one_of({1, 0xdead, 0x80000000});
      case 'o': return percent(80) ? between(1, 7) : one_of({0, 0x1000, 0xffffffff});
      case 'n':
      case 'N': return percent(80) ? one_of({0, 1, 2}) : one_of({3, 0x10000, 0x10001, 0xffffffff});
      case 'V': return iova();
      case 'L': return bytes();
      case 'M': return 0x200000000000 + memory();
      case 'P': return percent(80) ? 0 : one_of({top, top / 2 + 1});
      default: return percent(90) ? 0 : 1;
    }
  }

  // VFIO's own container.

  void begin_native() {
    say("container");
    say("api_version");
    for (std::uint64_t n = 0; n < 11; ++n)
      if (percent(40)) say("check_ext", n);
    if (percent(30)) say("set_iommu", iommu_type());
    say("group GROUP");
    say("set_container");
    if (percent(30)) draw_map(1);
    if (percent(30)) say("info", std::uint64_t{0x1000});
    if (kind_.starts_with("memlock"))
      say("rlimit_memlock", one_of({0x10000, 0x10064, 0x40000, 0x64000, 0xfff, 0, 0x100000}));
    if (percent(30)) draw_set_iommu();
    say("set_iommu", iommu_type());
    say("info", std::uint64_t{0x1000});
  }
  std::uint64_t iommu_type() const { return has("v1") ? 1 : 3; }

  void draw_native() {
    if (percent(raw_)) return draw_raw();
    const bool vaddr = is("vaddr");
    const std::uint64_t chance = below(100);
    if (is("dirty") && chance < 25) return draw_dirty();
    if (vaddr && chance < 25) return draw_vaddr();
    if (edges_ && chance < 30 && percent(50)) return draw_edge();
    if (chance < 34) return draw_info_or_extension();
    if (chance < 72) return draw_map(1);
    draw_unmap();
  }
  void draw_info_or_extension() {
    if (percent(50)) return draw_map(1);
    if (percent(40)) return draw_unmap();
    if (percent(50)) return draw_info();
    if (percent(70)) return draw_extension();
    if (odd()) draw_set_iommu();
  }
  void draw_edge() {
    // Groups are another user's after privileges are gone.
    if (kind_.starts_with("memlock") || percent(50)) return draw_protection();
    switch (below(8)) {
      case 0: say("group GROUP2 1"); break;
      case 1: say("group GROUP"); break;
      case 2: say("set_container"); break;
      case 3: say("set_container 1"); break;
      case 4: say("unset_container 1"); break;
      case 5:
        if (percent(40)) say("unset_container");
        break;
      default: say("set_container"); say("set_iommu", iommu_type());
    }
  }
  std::uint64_t bitmap_page() {
    return percent(75) ? page : one_of({0, 1, 0x200, 0x800, 0x2000, 0x200000, 0x40000000, 0x1800});
  }
  std::uint64_t bitmap_bytes(std::uint64_t n) {
    const std::uint64_t right = std::max<std::uint64_t>((n / page + 63) / 64 * 8, 8);
    if (percent(75) && right <= 0x10000) return right;
    return one_of({0, 7, 8, 0x10, 0x18, 0x1000, 0x10000});
  }
  void draw_dirty() {
    const std::uint64_t chance = below(20);
    const std::uint64_t argsz = odd() && percent(40) ? one_of({0, 7, 8, 0x2f, 0x31, 0x1000}) : 0x30;
    if (chance < 4) return void(say("dirty", std::uint64_t{8}, std::uint64_t{1}));
    if (chance < 5) return void(say("dirty", std::uint64_t{8}, std::uint64_t{2}));
    if (chance < 6) return void(say("dirty", argsz, one_of({0, 3, 5, 6, 7, 8, 0x10})));
    const place p = part();
    if (chance < 14) {
      // A bitmap said to be larger than the memory for it: no more of it may be meant.
      const bool larger = p.bytes <= 0x10000000 && percent(5);
      const std::uint64_t size =
          larger ? one_of({0x10000000, 0x10000008, 0x100000000}) : bitmap_bytes(p.bytes);
      say("dirty", argsz, std::uint64_t{4}, p.iova, p.bytes, bitmap_page(), size);
    } else {
      say("unmap", argsz, percent(85) ? 1 : one_of({2, 3, 5, 7}), p.iova, p.bytes, bitmap_page(),
          bitmap_bytes(p.bytes));
    }
  }
  void draw_vaddr() {
    const place p = part();
    switch (below(8)) {
      case 0:
      case 1:
      case 2:
        say("unmap", std::uint64_t{0x18}, std::uint64_t{4}, p.iova, p.bytes);
        remember(1, p.iova, p.bytes);
        break;
      case 3:
      case 4:
      case 5:
        say("map", std::uint64_t{0x20}, percent(85) ? 4 : one_of({5, 6, 7, 0xc}), memory(), p.iova,
            p.bytes);
        remember(1, p.iova, p.bytes);
        break;
      case 6:
        say("unmap", std::uint64_t{0x18}, std::uint64_t{6}, std::uint64_t{0}, std::uint64_t{0});
        break;
      default: draw_info();
    }
  }

  // An iommufd.

  void begin_iommufd() {
    say("iommufd");
    if (compat_) {
      say("api_version");
      for (std::uint64_t n = 0; n < 11; ++n)
        if (percent(40)) say("check_ext", n);
      if (percent(30)) say("set_iommu", iommu_type());
      if (percent(30)) say("info", std::uint64_t{0x18});
      if (percent(30)) draw_map(1);
      if (percent(30)) say("vfio_ioas 0 1");
    }
    if (has("ioas_memlock") && percent(50)) say("option 0 0 0 1");
    say("ioas_alloc 1 0");
    if (!compat_ || percent(60)) say("ioas_alloc 2 0");
    if (compat_) say("vfio_ioas 1 1");
    if (percent(20)) say("ioas_alloc 9 1");
    if (domains_ && !(edges_ && percent(50))) say("mock_domain 0xa 0xb 1");
    if (has("ioas2")) say("mock_domain 0xc 0xd 1");
    if (has("memlock"))
      say("rlimit_memlock", one_of({0x10000, 0x10064, 0x40000, 0x64000, 0xfff, 0, 0x100000}));
    if (compat_) {
      if (percent(30)) draw_set_iommu();
      say("set_iommu", iommu_type());
      say("info", std::uint64_t{0x1000});
    }
  }

  void draw_compat() {
    if (percent(raw_)) return draw_raw();
    const std::uint64_t chance = below(100);
    if (edges_ && chance < 18) return draw_ioas();
    if (chance < 22) {
      if (percent(40)) return draw_info();
      if (percent(50)) return draw_extension();
      if (percent(50)) return void(say("dirty 8 1"));
      if (percent(50)) return draw_set_iommu();
      say("vfio_ioas", one_of({0, 0, 1, 2, 3}), one_of({1, 2, 0xb}));
      // There may now be no compatible space.
      if (percent(80)) say("vfio_ioas 1 1");
      return;
    }
    if (edges_ && chance < 25) return void(say("vfio_ioas 1 1"));
    if (chance < 62) return draw_map(1);
    draw_unmap();
  }

  void draw_ioas() {
    if (percent(raw_)) return draw_raw();
    const std::uint64_t chance = below(100);
    if (chance < 36) return draw_ioas_map();
    if (chance < 52) return draw_copy();
    if (chance < 80) return draw_ioas_unmap();
    if (chance < 84) return void(say("ioas_ranges", space(), one_of({0, 1, 2, 8, 0x40})));
    if (chance < 89) return draw_allowed();
    if (chance < 92) return draw_option();
    if (chance < 94 && (edges_ || percent(40))) return draw_object();
    if (edges_) {
      if (chance < 96) return draw_protection();
      if (chance < 98) return void(say("vfio_ioas", one_of({0, 1, 2, 3}), space()));
      if (chance < 99) return draw_unmap();
    }
    draw_ioas_map();
  }
  std::uint64_t ioas_flags() {
    std::uint64_t flags = percent(60) ? 7 : one_of({6, 6, 3, 5, 2, 4});
    if (odd()) flags = one_of({0, 1, 8, 0xf, 0x10});
    return flags;
  }
  /// Areas side by side, and a copy of some.
  void draw_ioas_row() {
    const std::uint64_t in = one_of({1, 2});
    const std::uint64_t first = iova();
    std::uint64_t at = first;
    for (std::uint64_t left = between(2, 5); left != 0; --left) {
      const std::uint64_t n = bytes();
      say("ioas_map", in, std::uint64_t{7}, memory(), at, n);
      remember(in, at, n);
      at += n;
    }
    const std::uint64_t skip = below(3) * least();
    const std::uint64_t flags = percent(50) ? 7 : 6;
    say("ioas_copy", space(), in, flags, (flags & 1) != 0 ? iova() : 0, first + skip,
        at - first - skip - below(3) * least());
  }
  void draw_ioas_map() {
    if (percent(edges_ || crowded_ ? 8 : 3)) return draw_ioas_row();
    const std::uint64_t in = space();
    const std::uint64_t flags = ioas_flags();
    const std::uint64_t n = bytes();
    const std::string answer =
        say("ioas_map", in, flags, memory(), (flags & 1) != 0 || odd() ? iova() : 0, n);
    if (worked(answer)) remember(in, told(answer, "iova="), n);
  }
  void draw_copy() {
    place from = part();
    if (percent(25)) from.space = space();
    if (percent(25) && from.bytes > 2 * least()) {
      const std::uint64_t skip = below(from.bytes / least()) * least();
      from.iova += skip;
      from.bytes -= skip;
    }
    from.iova = fit(from.iova);
    from.bytes = fit(from.bytes);
    const std::uint64_t flags = ioas_flags();
    const std::uint64_t to = space();
    const std::string answer = say("ioas_copy", to, from.space, flags,
                                   (flags & 1) != 0 || odd() ? iova() : 0, from.iova, from.bytes);
    remember(from.space, from.iova, from.bytes);
    if (worked(answer)) remember(to, told(answer, "iova="), from.bytes);
  }
  void draw_ioas_unmap() {
    if (percent(2)) return void(say("ioas_unmap", space(), std::uint64_t{0}, top));
    const place p = part();
    say("ioas_unmap", p.space, p.iova, p.bytes);
  }
  void draw_allowed() {
    std::string line = "ioas_allow " + word(space());
    std::uint64_t at = iova();
    for (std::uint64_t left = percent(25) ? 0 : between(1, 3); left != 0; --left) {
      if (percent(10)) {
        line += " 0 0xffffffffffffffff";
        continue;
      }
      const std::uint64_t n = bytes();
      const std::uint64_t last = odd() && percent(20) ? extreme() : at + n - 1;
      line += " " + word(at) + " " + word(last);
      at = last + one_of({1, 1, page, 0x10 * page, 0, 1 + least()});
    }
    say(line);
  }
  void draw_option() {
    const std::uint64_t option = percent(70) ? 1 : one_of({0, 2, 3});
    const bool any = whole_pages_ || option != 1;
    say("option", percent(80) ? space() : 0, option, one_of({0, 0, 1, 2}),
        any ? one_of({0, 1, 0, 1, 2}) : one_of({1, 2}));
  }
  void draw_object() {
    switch (below(8)) {
      case 0: say("destroy", one_of({1, 2, 9, 0xb})); break;
      case 1: say("ioas_alloc", one_of({1, 2}), one_of({0, 0, 1})); break;
      case 2: say("mock_domain 0xa 0xb", space()); break;
      case 3: say("mock_domain 0xc 0xd 1"); break;
      case 4: say("mock_domain 0xe 0xf 2"); break;
      case 5: say("destroy 0xa"); break;
      case 6: say("destroy 0xc"); break;
      default: say("destroy 0xe");
    }
  }

  std::string kind_;
  answerer answer_;
  std::mt19937_64 random_;
  bool native_, compat_, deep_, edges_;
  std::uint64_t raw_;  // requests as words, in a hundred
  bool domains_;       // there is an IOMMU, as a rule
  // With large pages off, Linux 6.12 maps an area page by page and does not come back from one that
  // is no whole number of pages, as a copy makes them: where the one may be, the other is not.
  bool whole_pages_;
  bool crowded_;  // all in a few pages, to the byte
  std::vector<place> known_;
  std::size_t drawn_ = 0;
};

}  // namespace iopt::test
