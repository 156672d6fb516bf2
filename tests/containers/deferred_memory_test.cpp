// tests/containers/deferred_memory_test.cpp - nothing is freed early, and everything in the end.
#include "iopt/containers/deferred_memory.hpp"

#include <cstdint>
#include <cstring>
#include <set>

#include "tests/catch.hpp"

namespace {

struct ledger {
  std::set<void*> blocks;
  std::size_t freed = 0;
};
struct counting_memory {
  ledger* book;
  void* allocate(std::size_t bytes, std::size_t alignment) noexcept {
    void* const p = iopt::heap_memory{}.allocate(bytes, alignment);
    book->blocks.insert(p);
    return p;
  }
  void deallocate(void* p, std::size_t bytes, std::size_t alignment) noexcept {
    if (book->blocks.erase(p) == 1) ++book->freed;
    iopt::heap_memory{}.deallocate(p, bytes, alignment);
  }
};

struct thing {
  iopt::deferred_block block;
  std::uint64_t words[6];
};
struct odd_thing {
  iopt::deferred_block block;
  std::uint64_t words[60];
};
using sections = iopt::reader_sections<counting_memory>;
using memory = iopt::deferred_memory<counting_memory>;

TEST_CASE("what is retired while a reader is inside is freed after it has left") {
  ledger book;
  sections readers(counting_memory{&book});
  auto r = readers.attach();
  REQUIRE(r);
  const std::size_t others = book.blocks.size();
  {
    memory m(readers, counting_memory{&book}, sizeof(thing));
    r->enter();
    for (std::size_t n = 0; n < 10 * memory::batch; ++n) m.retire(m.create<odd_thing>());
    m.collect();
    CHECK(book.freed == 0);
    r->leave();
    r->enter();  // this section saw none of the first batch; it may have seen the rest
    m.collect();
    CHECK(book.freed == memory::batch);
    r->leave();
    m.collect();
    CHECK(book.freed == 10 * memory::batch);
    r->enter();
    m.retire(m.create<odd_thing>());
    r->leave();
    m.collect();
    CHECK(book.freed == 10 * memory::batch + 1);
  }
  CHECK(book.blocks.size() == others);
}

TEST_CASE("where nobody is inside, at most a batch waits to be freed") {
  ledger book;
  sections readers(counting_memory{&book});
  auto r = readers.attach();
  const std::size_t others = book.blocks.size();
  memory m(readers, counting_memory{&book}, sizeof(thing));
  for (std::size_t n = 0; n < 100 * memory::batch; ++n) {
    m.retire(m.create<odd_thing>());
    REQUIRE(book.blocks.size() - others <= memory::batch);
  }
}

TEST_CASE("blocks of the usual size are used again") {
  ledger book;
  sections readers(counting_memory{&book});
  {
    memory m(readers, counting_memory{&book}, sizeof(thing));
    thing* const first = m.create<thing>();
    m.free(first);
    CHECK(book.freed == 0);
    CHECK(m.create<thing>() == first);
    m.retire(first);
    for (std::size_t n = 0; n < 100 * memory::batch; ++n) m.retire(m.create<thing>());
    CHECK(book.blocks.size() + book.freed <= 3 * memory::batch);
  }
  CHECK(book.blocks.empty());
}

}  // namespace
