// tests/examples/interpose/vectors.cpp - the native golden vectors, asked of libc's ioctl().
//
//   vectors FOLDER     replays each file of the folder in a process of its own
//   vectors FILE.vec   replays one, and tells the lines that differ
//
// The memory is real: an arena of 64 MiB, as tests/vectors/README.md describes it.
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <string_view>

#include "tests/examples/interpose/program.hpp"
#include "tests/uapi/script_line.hpp"

namespace {

using namespace interpose_test;
using iopt::test::bits_text;
using iopt::test::hex;
using iopt::test::script_line;

constexpr std::uint64_t arena = 0x200000000000;
constexpr std::uint64_t mebibyte = 1 << 20;

char* at(std::uint64_t offset) { return reinterpret_cast<char*>(arena + offset); }

bool make_arena() {
  if (::mmap(at(0), 64 * mebibyte, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != at(0))
    return false;
  std::memset(at(0), 1, 64 * mebibyte);
  return ::mprotect(at(32 * mebibyte), 8 * mebibyte, PROT_READ) == 0 &&
         ::mprotect(at(40 * mebibyte), 8 * mebibyte, PROT_NONE) == 0 &&
         ::munmap(at(48 * mebibyte), 8 * mebibyte) == 0;
}

class libc_script {
 public:
  std::string answer(std::string_view text) {
    const std::string said = operate(script_line(text));
    return said + " lck=" + std::to_string(locked_kb()) + " pin=" + std::to_string(pinned_kb());
  }

 private:
  static std::string status(long answer) { return iopt::test::status(answer < 0 ? -errno : 0); }
  template <class... Argument>
  std::string call(int fd, std::uint32_t request, Argument... argument) {
    return status(::ioctl(fd, request, argument...));
  }
  template <class... Argument>
  std::string told(std::uint32_t request, Argument... argument) {
    const int answer = ::ioctl(container_, request, argument...);
    return status(answer) + " ret=" + std::to_string(answer);
  }

  std::string operate(const script_line& line) {
    const std::string_view op = line.word(0);
    int& group = groups_[line.number(op == "group" ? 2 : 1) & 3];
    if (op == "container") return status(container_ = ::open("/dev/vfio/vfio", O_RDWR));
    if (op == "group") {
      group = ::open(line.word(1) == "GROUP2" ? "/dev/vfio/1" : "/dev/vfio/0", O_RDWR);
      const std::string opened = status(group);
      return group < 0 ? opened : opened + " status=" + hex(group_flags(group));
    }
    if (op == "set_container") return status(interpose_test::set_container(group, container_));
    if (op == "unset_container") return call(group, abi::group_unset_container);
    if (op == "rlimit_memlock") {
      const rlimit limit{line.number(1), line.number(1)};
      return status(::setrlimit(RLIMIT_MEMLOCK, &limit));
    }
    if (op == "api_version") return told(abi::get_api_version);
    if (op == "check_ext") return told(abi::check_extension, line.number(1));
    if (op == "set_iommu") return call(container_, abi::set_iommu, line.number(1));
    if (op == "info") return info(line);
    if (op == "map") {
      abi::dma_map m{line.number32(1), line.number32(2), arena + line.number(3), line.number(4),
                     line.number(5)};
      return call(container_, abi::iommu_map_dma, &m);
    }
    if (op == "unmap") return unmap(line);
    if (op == "dirty") return dirty(line);
    if (op == "protect")
      return status(
          ::mprotect(at(line.number(1)), line.number(2), static_cast<int>(line.number(3))));
    return "UNKNOWN " + std::string(op);
  }

  std::string info(const script_line& line) {
    alignas(8) std::array<char, 8192> room{};
    const std::uint32_t given = line.number32(1);
    std::memcpy(room.data(), &given, sizeof given);
    const std::string done = call(container_, abi::iommu_get_info, room.data());
    if (done != "0") return done;
    const auto read = [&]<class T>(std::size_t offset, T value) {
      std::memcpy(&value, room.data() + offset, sizeof value);
      return value;
    };
    const auto head = read(0, abi::type1_info{});
    const std::uint32_t chain = given >= sizeof head ? head.cap_offset : 0;
    std::string text = "0 argsz=" + std::to_string(head.argsz) + " flags=" + hex(head.flags) +
                       " pgsizes=" + hex(head.page_sizes) + " cap=" + std::to_string(chain);
    for (std::uint32_t offset = chain; offset != 0;) {
      const auto link = read(offset, abi::capability_header{});
      text += " {id=" + std::to_string(link.id) + " v=" + std::to_string(link.version);
      if (link.id == abi::capability_migration) {
        const auto c = read(offset, abi::migration_capability{});
        text +=
            " pgsizes=" + hex(c.page_sizes) + " max_bitmap=" + std::to_string(c.max_bitmap_bytes);
      } else if (link.id == abi::capability_dma_avail) {
        text += " avail=" + std::to_string(read(offset, abi::dma_avail_capability{}).avail);
      } else if (link.id == abi::capability_iova_range) {
        const auto c = read(offset, abi::iova_ranges_capability{});
        for (std::uint32_t n = 0; n != c.count; ++n) {
          const auto r =
              read(offset + sizeof c + n * sizeof(abi::iova_range_entry), abi::iova_range_entry{});
          text += " " + hex(r.first) + "-" + hex(r.last);
        }
      }
      text += "}";
      offset = link.next;
    }
    return text;
  }

  std::string unmap(const script_line& line) {
    struct {
      abi::dma_unmap range;
      abi::bitmap bits;
    } u{{line.number32(1), line.number32(2), line.number(3), line.number(4)},
        {line.number(5), line.number(6), reinterpret_cast<std::uintptr_t>(bits_.data())}};
    std::memset(bits_.data(), 0, sizeof bits_);
    const std::string done = call(container_, abi::iommu_unmap_dma, &u);
    const bool has_bits = done == "0" && (u.range.flags & abi::unmap_get_dirty_bitmap) != 0;
    return done + " size=" + hex(u.range.size) +
           (has_bits ? bits_text(bits_.data(), line.number(6)) : "");
  }

  std::string dirty(const script_line& line) {
    struct {
      abi::dirty_bitmap what;
      abi::dirty_bitmap_get get;
    } d{{line.number32(1), line.number32(2)},
        {line.number(3),
         line.number(4),
         {line.number(5), line.number(6), reinterpret_cast<std::uintptr_t>(bits_.data())}}};
    std::memset(bits_.data(), 0, sizeof bits_);
    const std::string done = call(container_, abi::iommu_dirty_pages, &d);
    const bool has_bits = done == "0" && (d.what.flags & abi::dirty_get_bitmap) != 0 &&
                          line.number(6) <= sizeof bits_;
    return done + (has_bits ? bits_text(bits_.data(), line.number(6)) : "");
  }

  int container_ = -1;
  std::array<int, 4> groups_{-1, -1, -1, -1};
  std::array<std::uint64_t, 1 << 17> bits_{};
};

int replay(const std::filesystem::path& file) {
  if (!make_arena()) return std::fputs("no arena\n", stderr), 2;
  static libc_script script;
  std::ifstream in(file);
  std::size_t number = 0, wrong = 0;
  for (std::string line; std::getline(in, line);) {
    ++number;
    const std::string op = line.substr(0, std::min(line.find(" => "), line.size()));
    const std::string have =
        op.empty() || op.starts_with('#') ? line : op + " => " + script.answer(op);
    if (have == line || ++wrong > 5) continue;
    std::fprintf(stderr, "%s:%zu\n  want %s\n  have %s\n", file.filename().c_str(), number,
                 line.c_str(), have.c_str());
  }
  return number != 0 && wrong == 0 ? 0 : 1;
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) return std::fputs("usage: vectors FOLDER | FILE.vec\n", stderr), 2;
  const std::filesystem::path path(arguments[1]);
  if (locked_kb() != 0) return std::fputs("run me on libiopt_interpose.so\n", stderr), 2;
  if (!std::filesystem::is_directory(path)) return replay(path);
  int files = 0, wrong = 0;
  for (const auto& entry : std::filesystem::directory_iterator(path)) {
    const std::string name = entry.path().filename();
    if (!name.ends_with(".vec")) continue;
    ++files;
    const bool limited = name.find("memlock") != std::string::npos;
    std::vector<std::string> environment{limited ? "IOPT_CAP_IPC_LOCK=0" : "IOPT_CAP_IPC_LOCK=1"};
    if (name.starts_with("limit")) environment.push_back("IOPT_DMA_ENTRY_LIMIT=20");
    if (ended(run_self(entry.path().c_str(), environment)) != 0) ++wrong;
  }
  std::printf("%d files, %d differ\n", files, wrong);
  return files > 0 && wrong == 0 ? 0 : 1;
}
