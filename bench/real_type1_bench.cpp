// Question   What do this machine's own type1 and iommufd cost, and what does the library over them, and beside?
// Baseline   The kernel's ioctls, as a program writes them; on the device of a group that VFIO has.
// Unit       ns of a pair of map and unmap of 4 KiB at a random free IOVA of 4 GiB, n live mappings
//            there; of one map, and one unmap, of 1 GiB, or of as much as may be locked (counter `mib`);
//            of a hole of a page, and of the map before, with holes in one page of 16 of 64 MiB.
//            Processor time of this thread, the kernel's work for it included.
// Expect     the library over the kernel adds what it costs on its own mock domain without the pinning,
//            little beside an ioctl that pins; a hole is an unmap where memory was mapped in
//            pages, and two maps more where a piece of 2 MiB is taken out and put back.
// Tried      nothing yet. `./cmake/run vm-bench` runs it in a virtual machine, where all is emulated: its
//            answers are true there, its times are nobody's, and no ratio of them is to be quoted.
//
//   NAME_ioctl         the ioctls
//   NAME_iopt          an io_pagetable over them, a range in one piece
//   NAME_iopt_pages    likewise, in pieces of a page, so that each page can go
//   NAME_iopt_remap    likewise, in pieces of 2 MiB; a device may fault while one is put back
//   iommufd_cut        iommufd with large pages off, which cuts what is asked for as of a container
//   library            an io_pagetable over mock::domain and host::process_pinner, with no kernel's IOMMU
//
// type1 refuses a hole, so type1_ioctl has mapped each page for itself there. The group is that of
// IOPT_GROUP_PATH ("/dev/vfio/12"), or the first one that can be used; the device for iommufd is that of
// IOPT_VFIO_DEVICE ("/dev/vfio/devices/vfio0"), or the first one of the group. Where there is none, a
// line says so and nothing is measured.
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <mutex>
#include <set>
#include <system_error>

#include "bench/contenders.hpp"
#include "iopt/backends/host/lockable_memory.hpp"
#include "iopt/backends/host/process_pinner.hpp"
#include "iopt/backends/mock/domain.hpp"
#include "iopt/backends/real/real.hpp"
#include "iopt/uapi/iommufd/abi.hpp"
#include "iopt/uapi/vfio/abi.hpp"

namespace bench {
namespace {

namespace fs = std::filesystem;
namespace vfio = iopt::vfio::abi;
namespace ioas = iopt::iommufd::abi;

constexpr uint64_t window = uint64_t{1} << 32;
constexpr uint64_t window_slots = uint64_t{1} << 20;
constexpr uint64_t large_iova = uint64_t{2} << 32;
constexpr std::size_t drawn = 1000;
constexpr uint64_t most_live = 60000;
constexpr uint64_t most_punched = 64 * mebibyte;

/// The errno of the last call is part of what is said.
void demand_call(bool holds, const char* what) {
  if (!holds) std::fprintf(stderr, "%s: %s\n", what, std::strerror(errno));
  demand(holds, what);
}

uint64_t kib_in(const char* file, std::string_view name) {
  char text[8192];
  const int descriptor = ::open(file, O_RDONLY | O_CLOEXEC);
  const ssize_t bytes = descriptor < 0 ? 0 : ::read(descriptor, text, sizeof text);
  if (descriptor >= 0) ::close(descriptor);
  return iopt::host::kilobytes_in_status({text, bytes < 0 ? 0 : static_cast<std::size_t>(bytes)},
                                         name)
      .value_or(0);
}
/// What the kernel counts as locked (type1) or pinned (iommufd) for this process, in pages.
uint64_t counted_pages() {
  return (kib_in("/proc/self/status", "VmLck:") + kib_in("/proc/self/status", "VmPin:")) / 4;
}

// --- What this machine has ---

/// Names below a folder that begin so, and then are a number; by number.
std::vector<fs::path> numbered(const fs::path& folder, std::string_view before) {
  std::set<std::pair<unsigned, fs::path>> found;
  std::error_code ignored;
  for (const auto& each : fs::directory_iterator(folder, ignored)) {
    const std::string file = each.path().filename();
    unsigned number = 0;
    if (!file.starts_with(before)) continue;
    const char* const end = file.data() + file.size();
    const auto [at, wrong] = std::from_chars(file.data() + before.size(), end, number);
    if (wrong == std::errc{} && at == end) found.emplace(number, each.path());
  }
  std::vector<fs::path> paths;
  for (const auto& [number, path] : found) paths.push_back(path);
  return paths;
}

struct machine {
  std::string group;   // none: no container
  std::string device;  // none: no iommufd
  uint64_t entries_left = ~uint64_t{0};
  uint64_t lockable_pages = ~uint64_t{0};
  uint64_t bulk_bytes = 0;
  std::vector<std::string> notes;

  machine() {
    find_group();
    find_device();
    if (!usable()) return;
    const auto lockable = iopt::host::lockable_bytes();
    if (lockable) lockable_pages = *lockable / page;
    const uint64_t room = kib_in("/proc/meminfo", "MemAvailable:") * 1024 / 2;
    const uint64_t fits = std::min({gibibyte, lockable.value_or(gibibyte), room});
    bulk_bytes = std::bit_floor(fits);
    if (bulk_bytes < gibibyte)
      notes.push_back("large maps are of " + std::to_string(bulk_bytes / mebibyte) + " MiB, for " +
                      (fits < room ? "RLIMIT_MEMLOCK" : "want of memory"));
    if (bulk_bytes < 4 * mebibyte) {
      group.clear(), device.clear();
      notes.push_back("4 MiB at least must be lockable (ulimit -l): nothing is measured");
      return;
    }
    const uint64_t live = std::min(entries_left, lockable_pages);
    if (live <= most_live)
      notes.push_back("no " + std::to_string(most_live) + " live mappings: there is room for " +
                      std::to_string(live));
    if (punched_bytes() < most_punched)
      notes.push_back("holes are made in " + std::to_string(punched_bytes() / 1024) + " KiB");
  }
  bool usable() const { return !group.empty() || !device.empty(); }
  /// How much holes are made in.
  uint64_t punched_bytes() const {
    const uint64_t some = std::min({most_punched, bulk_bytes, lockable_pages / 2 * page});
    return std::min(some, std::bit_floor(entries_left / 2) * page);
  }

 private:
  void find_group() {
    const char* const named = std::getenv("IOPT_GROUP_PATH");
    std::string why = "no group below /dev/vfio: bind a device to vfio-pci";
    for (const fs::path& path :
         named != nullptr ? std::vector<fs::path>{named} : numbered("/dev/vfio", "")) {
      const auto opened = iopt::vfio_type1::container::open(path.c_str());
      if (!opened) {
        why = path.string() +
              " and /dev/vfio/vfio cannot be used: " + std::string(iopt::name(opened.error().code));
        continue;
      }
      group = path;
      if (const auto left =
              iopt::vfio_type1::container_info::read_entries_left(opened->descriptor()))
        entries_left = *left;
      return;
    }
    notes.push_back("no type1: " + why);
  }
  void find_device() {
    std::string why = "no file below /dev/vfio/devices";
    for (const fs::path& path : device_paths()) {
      if (const auto opened = real_space(path.c_str())) {
        device = path;
        return;
      } else {
        why = path.string() + " cannot be used: " + std::string(iopt::name(opened.error().code));
      }
    }
    if (::access("/dev/iommu", R_OK | W_OK) != 0)
      why = std::string("/dev/iommu: ") + std::strerror(errno);
    notes.push_back("no iommufd: " + why);
  }
  std::vector<fs::path> device_paths() const {
    if (const char* const named = std::getenv("IOPT_VFIO_DEVICE")) return {named};
    const fs::path all = "/dev/vfio/devices";
    if (group.empty()) return numbered(all, "vfio");
    std::vector<fs::path> of_group;
    std::error_code ignored;
    for (const auto& each : fs::directory_iterator(
             "/sys/kernel/iommu_groups" / fs::path(group).filename() / "devices", ignored))
      for (const fs::path& path : numbered(each.path() / "vfio-dev", "vfio"))
        of_group.push_back(all / path.filename());
    return of_group;
  }
  static iopt::result<iopt::real::address_space> real_space(const char* path) {
    return iopt::real::address_space::open({.device = path});
  }
};

const machine& here() {
  static const machine found;
  return found;
}
/// What is missing, once.
void tell_notes() {
  static std::once_flag told;
  std::call_once(told, [] {
    for (const std::string& note : here().notes) std::printf("note: real_type1: %s\n", note.data());
    std::fflush(stdout);
  });
}

/// Memory in large pages, where the kernel has some; touched.
uint64_t memory() {
  static const uint64_t address = [] {
    const std::size_t bytes = here().bulk_bytes + gibibyte;
    void* const start = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    demand_call(start != MAP_FAILED, "mmap");
    const uint64_t aligned =
        (reinterpret_cast<std::uintptr_t>(start) + gibibyte - 1) & ~(gibibyte - 1);
    void* const used = reinterpret_cast<void*>(aligned);
    ::madvise(used, here().bulk_bytes, MADV_HUGEPAGE);
    std::memset(used, 1, here().bulk_bytes);
    return aligned;
  }();
  return address;
}

// --- Contenders: map(), unmap(), and how much the kernel is to have counted ---

/// type1 by its ioctls.
class type1_ioctls {
 public:
  static constexpr bool kernel = true;

  type1_ioctls() : container_(opened()) {}
  void map(uint64_t iova, uint64_t address, uint64_t bytes) {
    vfio::dma_map request{sizeof request, vfio::map_read | vfio::map_write, address, iova, bytes};
    demand_call(::ioctl(container_.descriptor(), vfio::iommu_map_dma, &request) == 0, "type1 map");
  }
  void unmap(uint64_t iova, uint64_t bytes) { demand(gone(iova, bytes) == bytes, "type1 unmap"); }
  uint64_t gone(uint64_t iova, uint64_t bytes) {
    vfio::dma_unmap request{sizeof request, 0, iova, bytes};
    demand_call(::ioctl(container_.descriptor(), vfio::iommu_unmap_dma, &request) == 0,
                "type1 unmap");
    return request.size;
  }
  bool refuses_hole(uint64_t iova) {
    vfio::dma_unmap request{sizeof request, 0, iova, page};
    return ::ioctl(container_.descriptor(), vfio::iommu_unmap_dma, &request) != 0 &&
           errno == EINVAL;
  }

 private:
  static iopt::vfio_type1::container opened() {
    auto c = iopt::vfio_type1::container::open(here().group.data());
    demand(c.has_value(), "the group does not open again");
    return std::move(*c);
  }
  iopt::vfio_type1::container container_;
};

iopt::real::address_space open_space(iopt::real::interface which) {
  auto space = which == iopt::real::interface::type1
                   ? iopt::real::address_space::open({.group = here().group.data()})
                   : iopt::real::address_space::open({.device = here().device.data()});
  demand(space && space->behind() == which, "the device does not open again");
  return std::move(*space);
}

/// iommufd by its ioctls.
class iommufd_ioctls {
 public:
  static constexpr bool kernel = true;

  iommufd_ioctls() : space_(open_space(iopt::real::interface::iommufd)) {}
  void map(uint64_t iova, uint64_t address, uint64_t bytes) {
    constexpr std::uint32_t flags = ioas::map_fixed_iova | ioas::map_readable | ioas::map_writeable;
    ioas::ioas_map request{sizeof request, flags, id(), 0, address, bytes, iova};
    demand_call(ask(ioas::request::ioas_map, request) == 0, "iommufd map");
  }
  void unmap(uint64_t iova, uint64_t bytes) {
    ioas::ioas_unmap request{sizeof request, id(), iova, bytes};
    demand_call(ask(ioas::request::ioas_unmap, request) == 0 && request.length == bytes,
                "iommufd unmap");
  }
  /// Before anything is mapped: from then on what is asked as of a container cuts.
  void let_containers_cut() {
    ioas::option off{sizeof off, ioas::option_huge_pages, ioas::option_set, 0, id(), 0};
    demand_call(ask(ioas::request::option, off) == 0, "large pages off");
    ioas::vfio_ioas chosen{sizeof chosen, id(), ioas::vfio_ioas_set, 0};
    demand_call(ask(ioas::request::vfio_ioas, chosen) == 0, "as a container");
  }
  /// As of a container.
  uint64_t gone(uint64_t iova, uint64_t bytes) {
    vfio::dma_unmap request{sizeof request, 0, iova, bytes};
    const int answer = ::ioctl(space_.descriptor(), vfio::iommu_unmap_dma, &request);
    demand_call(answer == 0 || errno == ENOENT, "iommufd unmap, as of a container");
    return answer == 0 ? request.size : 0;
  }
  bool refuses_hole(uint64_t iova) {
    ioas::ioas_unmap request{sizeof request, id(), iova, page};
    return ask(ioas::request::ioas_unmap, request) != 0;
  }

 private:
  std::uint32_t id() const { return space_.iommufd()->ioas(); }
  template <class Argument>
  int ask(ioas::request request, Argument& argument) {
    return ::ioctl(space_.descriptor(), static_cast<unsigned long>(request), &argument);
  }
  iopt::real::address_space space_;
};

/// An io_pagetable over either.
template <iopt::real::interface Which>
class over_kernel {
 public:
  static constexpr bool kernel = true;

  explicit over_kernel(iopt::granular::options how = {})
      : space_(open_space(Which)), domain_(opened(space_), how), table_(pinner_) {
    demand(table_.attach(domain_).has_value(), "attach");
  }
  ~over_kernel() {
    demand(table_.unmap_all().outcome.has_value() && domain_.entries() == 0, "unmap_all");
    demand(!domain_.poisoned(), "the kernel did otherwise than it was told");
    demand(table_.detach(domain_), "detach");
  }
  over_kernel(const over_kernel&) = delete;
  over_kernel& operator=(const over_kernel&) = delete;

  void map(uint64_t iova, uint64_t address, uint64_t bytes) {
    const auto at = table_.map(iopt::user_address{address}, bytes, iopt::access_rights::read_write,
                               iopt::iova{iova});
    if (!at) std::fprintf(stderr, "map: %s\n", iopt::name(at.error().code).data());
    demand(at.has_value(), "map");
  }
  void unmap(uint64_t iova, uint64_t bytes) {
    demand(gone(iova, bytes, iopt::unmap_profile::iommufd) == bytes, "unmap");
  }
  uint64_t gone(uint64_t iova, uint64_t bytes,
                iopt::unmap_profile how = iopt::unmap_profile::hole_punching) {
    const iopt::unmap_report report = table_.unmap({iova}, bytes, how);
    return report.bytes;
  }

 private:
  static iopt::real::table opened(const iopt::real::address_space& space) {
    auto entries_of = space.table();
    demand(entries_of.has_value(), "table");
    return std::move(*entries_of);
  }
  iopt::real::address_space space_;
  iopt::real::pinner pinner_;
  iopt::real::domain domain_;
  iopt::io_pagetable<iopt::real::pinner, iopt::real::domain, multi_threaded> table_;
};
using over_type1 = over_kernel<iopt::real::interface::type1>;
using over_iommufd = over_kernel<iopt::real::interface::iommufd>;

/// An io_pagetable over nothing of the kernel's but its page tables of this process.
class library {
 public:
  static constexpr bool kernel = false;

  library() : table_(pinner_) { demand(table_.attach(domain_).has_value(), "attach"); }
  ~library() {
    demand(table_.unmap_all().outcome.has_value(), "unmap_all");
    demand(table_.detach(domain_), "detach");
  }
  library(const library&) = delete;
  library& operator=(const library&) = delete;

  void map(uint64_t iova, uint64_t address, uint64_t bytes) {
    demand(table_
               .map(iopt::user_address{address}, bytes, iopt::access_rights::read_write,
                    iopt::iova{iova})
               .has_value(),
           "map");
  }
  void unmap(uint64_t iova, uint64_t bytes) {
    demand(gone(iova, bytes, iopt::unmap_profile::iommufd) == bytes, "unmap");
  }
  uint64_t gone(uint64_t iova, uint64_t bytes,
                iopt::unmap_profile how = iopt::unmap_profile::hole_punching) {
    return table_.unmap({iova}, bytes, how).bytes;
  }
  bool shows(uint64_t iova, uint64_t address) const {
    return domain_.translate({iova}) == iopt::physical{address};
  }

 private:
  struct no_limit {
    uint64_t operator()(iopt::account_mode) const noexcept { return iopt::top; }
  };
  using pinner = iopt::host::process_pinner<no_limit>;
  pinner pinner_;
  iopt::mock::domain domain_;
  iopt::io_pagetable<pinner, iopt::mock::domain, multi_threaded> table_;
};

/// What is mapped: a domain of ours must show it, at both ends and in between.
template <class Contender>
void check_mapped(const Contender& on, uint64_t iova, uint64_t address, uint64_t bytes) {
  if constexpr (requires { on.shows(iova, address); })
    for (uint64_t at = 0; at < bytes; at += std::max(page, (bytes - page) / 16 / page * page))
      demand(on.shows(iova + at, address + at), "translation");
}
/// The kernel must have counted at least what is mapped, and nothing once it is not.
template <class Contender>
void check_counted(uint64_t before, uint64_t mapped_pages) {
  if (!Contender::kernel) return;
  const uint64_t now = counted_pages();
  demand(mapped_pages == 0 ? now == before : now >= before + mapped_pages,
         "what the kernel counts as pinned");
}

// --- Workloads ---

/// As in small_maps_bench.cpp; no tables are made beforehand, but for the IOVAs that are used.
template <class Contender>
void pair(benchmark::State& state, std::size_t live) {
  tell_notes();
  const uint64_t pages = std::min<uint64_t>(4096, here().bulk_bytes / page);
  const auto address_of = [&, from = memory()](uint64_t slot) {
    return from + slot % pages * page;
  };
  const auto iova_of = [](uint64_t slot) { return window + slot * page; };
  const uint64_t before = counted_pages();
  {
    Contender on;
    std::mt19937_64 random(12345);
    std::vector<bool> used(window_slots);
    const auto free_slot = [&] {
      uint64_t slot;
      do slot = random() % window_slots;
      while (used[slot]);
      return slot;
    };
    std::vector<uint64_t> filled(live), slots(drawn);
    for (uint64_t& slot : filled) {
      slot = free_slot();
      used[slot] = true;
      on.map(iova_of(slot), address_of(slot), page);
    }
    for (uint64_t& slot : slots) slot = free_slot();
    for (const uint64_t slot : slots) {
      on.map(iova_of(slot), address_of(slot), page);
      check_mapped(on, iova_of(slot), address_of(slot), page);
      on.unmap(iova_of(slot), page);
    }
    check_counted<Contender>(before, live);
    std::size_t n = 0;
    for (auto _ : state) {
      on.map(iova_of(slots[n]), address_of(slots[n]), page);
      on.unmap(iova_of(slots[n]), page);
      if (++n == drawn) n = 0;
    }
    for (const uint64_t slot : filled) on.unmap(iova_of(slot), page);
    check_counted<Contender>(before, 0);
  }
}

template <class Contender>
void bulk(benchmark::State& state) {
  tell_notes();
  const uint64_t bytes = here().bulk_bytes, from = memory(), before = counted_pages();
  Contender on;
  on.map(large_iova, from, bytes);
  check_mapped(on, large_iova, from, bytes);
  check_counted<Contender>(before, bytes / page);
  if constexpr (requires { on.refuses_hole(large_iova); })
    demand(on.refuses_hole(large_iova + page), "the kernel makes holes");
  on.unmap(large_iova, bytes);
  check_counted<Contender>(before, 0);
  stopwatch map, unmap;
  for (auto _ : state) {
    map.start();
    on.map(large_iova, from, bytes);
    map.stop();
    unmap.start();
    on.unmap(large_iova, bytes);
    unmap.stop();
  }
  check_counted<Contender>(before, 0);
  tell(state, "map", map);
  tell(state, "unmap", unmap);
  state.counters["mib"] = static_cast<double>(bytes) / static_cast<double>(mebibyte);
}

/// Odd pages, so that no two touch.
std::vector<uint64_t> draw(uint64_t bytes) {
  std::mt19937_64 random(777);
  std::vector<uint64_t> all;
  for (uint64_t n = 1; n < bytes / page; n += 2) all.push_back(n);
  std::shuffle(all.begin(), all.end(), random);
  all.resize(bytes / page / 16);
  return all;
}

/// make() a contender, map(it) so that holes can be made, and make them.
template <class Contender, class Make, class Map>
void holes(benchmark::State& state, Make make, Map map_all) {
  tell_notes();
  const uint64_t bytes = here().punched_bytes(), before = counted_pages();
  const std::vector<uint64_t> at = draw(bytes);
  memory();
  stopwatch map, punch;
  for (auto _ : state) {
    auto on = make();
    map.start();
    map_all(*on, bytes);
    map.stop();
    punch.start();
    for (const uint64_t n : at) demand(on->gone(large_iova + n * page, page) == page, "hole");
    punch.stop();
    check_counted<Contender>(before, bytes / page - at.size());
    demand(on->gone(large_iova + at[0] * page, page) == 0, "a hole is shown");
    demand(on->gone(large_iova, bytes) == bytes - at.size() * page, "beside holes");
    check_counted<Contender>(before, 0);
  }
  tell(state, "map", map);
  tell(state, "hole", punch, at.size());
  state.counters["mib"] = static_cast<double>(bytes) / static_cast<double>(mebibyte);
}

template <class Contender>
void holes_ours(benchmark::State& state, iopt::granular::options how) {
  holes<Contender>(
      state, [how] { return std::make_unique<Contender>(how); },
      [](Contender& on, uint64_t bytes) { on.map(large_iova, memory(), bytes); });
}

template <class Contender>
void enter(const std::string& who) {
  for (const uint64_t live : {uint64_t{0}, uint64_t{1000}, most_live}) {
    if (live + 1 > std::min(here().entries_left, here().lockable_pages)) continue;
    add("pair/" + who + "/" + std::to_string(live), [live](benchmark::State& state) {
      pair<Contender>(state, live);
    })->Iterations(2 * drawn);
  }
  add("large/" + who, bulk<Contender>)->Iterations(3);
}
template <class Contender>
void enter_holes(const std::string& who) {
  const auto in_pieces = [&](const char* name, iopt::granular::options how) {
    add("holes/" + who + name, [how](benchmark::State& state) {
      holes_ours<Contender>(state, how);
    })->Iterations(1);
  };
  in_pieces("_pages", {.pieces = iopt::granules::fixed(page)});
  in_pieces("_remap", {.pieces = iopt::granules::fixed(2 * mebibyte),
                       .inside = iopt::granular::inside_piece::unmap_and_remap});
}

[[maybe_unused]] const bool registered = [] {
  if (!here().usable()) {  // no row: one benchmark that says why
    add("none", [](benchmark::State& state) {
      tell_notes();
      state.SkipWithError("no device of this machine can be used");
    })->Repetitions(1);
    return true;
  }
  if (!here().group.empty()) {
    enter<type1_ioctls>("type1_ioctl");
    enter<over_type1>("type1_iopt");
    add("holes/type1_ioctl", [](benchmark::State& state) {
      holes<type1_ioctls>(
          state, [] { return std::make_unique<type1_ioctls>(); },
          [](type1_ioctls& on, uint64_t bytes) {
            for (uint64_t n = 0; n < bytes; n += page) on.map(large_iova + n, memory() + n, page);
          });
    })->Iterations(1);
    enter_holes<over_type1>("type1_iopt");
  }
  if (!here().device.empty()) {
    enter<iommufd_ioctls>("iommufd_ioctl");
    enter<over_iommufd>("iommufd_iopt");
    add("holes/iommufd_cut", [](benchmark::State& state) {
      holes<iommufd_ioctls>(
          state,
          [] {
            auto on = std::make_unique<iommufd_ioctls>();
            on->let_containers_cut();
            return on;
          },
          [](iommufd_ioctls& on, uint64_t bytes) { on.map(large_iova, memory(), bytes); });
    })->Iterations(1);
    enter_holes<over_iommufd>("iommufd_iopt");
  }
  enter<library>("library");
  add("holes/library", [](benchmark::State& state) {
    holes<library>(
        state, [] { return std::make_unique<library>(); },
        [](library& on, uint64_t bytes) { on.map(large_iova, memory(), bytes); });
  })->Iterations(1);
  return true;
}();

}  // namespace
}  // namespace bench
