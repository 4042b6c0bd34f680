/* SPDX-License-Identifier: BSD-2-Clause */
/* ELF files for the boot loaders: both classes are read into one form by a table of field offsets. */
#include "board/elf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "board/loader.h"
#include "board/place.h"

enum { EI_CLASS = 4, EI_DATA = 5, CLASS32 = 1, CLASS64 = 2, DATA_LSB = 1 };
enum { ET_EXEC = 2, EM_386 = 3, EM_X86_64 = 62, PT_LOAD = 1, PT_NOTE = 4, PN_XNUM = 0xffff };
enum { E_TYPE = 16, E_MACHINE = 18, PHDR_MAX = 64 };

/* Where the fields are, by class; addresses and offsets have `word` bytes. */
struct layout {
	unsigned word, header, entry, phoff, phentsize, phnum;
	unsigned ph_bytes, p_offset, p_vaddr, p_paddr, p_filesz, p_memsz;
};
static const struct layout layout32 = {4, 52, 24, 28, 42, 44, 32, 4, 8, 12, 16, 20};
static const struct layout layout64 = {8, 64, 24, 32, 54, 56, 56, 8, 16, 24, 32, 40};

static uint64_t
word(const struct layout *l, const uint8_t *p)
{
	return l->word == 8 ? get_le64(p) : get_le32(p);
}

bool
elf_is(const struct boot_file *f)
{
	return f->head_len >= 4 && memcmp(f->head, "\177ELF", 4) == 0;
}

/* Class, machine and kind; NULL and an error for what is no kernel. */
static const struct layout *
check_header(struct elf *e, struct err *err)
{
	const struct boot_file *f = e->file;
	const uint8_t *h = f->head;
	const struct layout *l;
	unsigned machine;

	if (f->head_len < layout32.header || (h[EI_CLASS] == CLASS64 && f->head_len < layout64.header)) {
		boot_file_error(f, err, "is cut off in the ELF header (copy it again)");
		return NULL;
	}
	machine = get_le16(h + E_MACHINE);
	e->is64 = h[EI_CLASS] == CLASS64;
	l = e->is64 ? &layout64 : &layout32;
	if (h[EI_DATA] != DATA_LSB || (h[EI_CLASS] != CLASS32 && h[EI_CLASS] != CLASS64) ||
	    machine != (e->is64 ? EM_X86_64 : EM_386)) {
		boot_file_error(f, err, "is an ELF file of another machine, %u (give one for i386 or x86-64)",
				machine);
		return NULL;
	}
	if (get_le16(h + E_TYPE) != ET_EXEC) {
		boot_file_error(
		    f, err,
		    "is an ELF file of type %u, no kernel (give an executable that is linked to an address)",
		    get_le16(h + E_TYPE));
		return NULL;
	}
	return l;
}

static int
take_segment(struct elf *e, const struct layout *l, const uint8_t *ph, unsigned n, struct err *err)
{
	const struct boot_file *f = e->file;
	uint32_t type = get_le32(ph);
	struct elf_segment s = {
	    .off = word(l, ph + l->p_offset),
	    .file_len = word(l, ph + l->p_filesz),
	    .vaddr = word(l, ph + l->p_vaddr),
	    .paddr = word(l, ph + l->p_paddr),
	    .mem_len = word(l, ph + l->p_memsz),
	};

	if (type != PT_LOAD && type != PT_NOTE)
		return 0;
	if (s.file_len != 0 && !range_fits(s.off, s.file_len, f->size))
		return boot_file_error(
		    f, err, "segment %u goes on to %#llx of %#llx bytes: cut off (copy it again)", n,
		    (unsigned long long)(s.off + s.file_len), (unsigned long long)f->size);
	if (type == PT_LOAD && s.file_len > s.mem_len)
		return boot_file_error(
		    f, err,
		    "segment %u has more bytes in the file than in memory (a damaged file? copy it "
		    "again)",
		    n);
	if (type == PT_LOAD ? e->segments == ELF_SEGMENTS : e->notes == ELF_SEGMENTS)
		return boot_file_error(f, err,
				       "has more than %d segments of a kind (a damaged file? copy it again)",
				       ELF_SEGMENTS);
	if (type == PT_NOTE)
		e->note[e->notes++] = s;
	else if (s.mem_len != 0)
		e->segment[e->segments++] = s;
	return 0;
}

int
elf_parse(struct elf *e, const struct boot_file *f, struct err *err)
{
	const struct layout *l;
	unsigned count, bytes;
	uint64_t at;
	int ret = 0;

	memset(e, 0, sizeof(*e));
	e->file = f;
	l = check_header(e, err);
	if (l == NULL)
		return -err->code;
	e->entry = word(l, f->head + l->entry);
	at = word(l, f->head + l->phoff);
	bytes = get_le16(f->head + l->phentsize);
	count = get_le16(f->head + l->phnum);
	if (bytes != l->ph_bytes || count == 0 || count == PN_XNUM)
		return boot_file_error(f, err,
				       "has %u program headers of %u bytes (a damaged file? copy it again)",
				       count, bytes);
	if (!range_fits(at, (uint64_t)count * bytes, f->size))
		return boot_file_error(f, err, "is cut off in the program headers (copy it again)");
	for (unsigned i = 0; i < count && ret == 0; i++) {
		uint8_t ph[PHDR_MAX];

		ret = boot_file_read(f, at + (uint64_t)i * bytes, ph, bytes, err);
		if (ret == 0)
			ret = take_segment(e, l, ph, i, err);
	}
	if (ret == 0 && e->segments == 0)
		ret = boot_file_error(f, err, "has nothing to load (a damaged file? copy it again)");
	return ret;
}

int
elf_load(const struct elf *e, const struct boot_request *r, struct place *p, struct err *err)
{
	int ret = 0;

	for (unsigned i = 0; i < e->segments && ret == 0; i++) {
		const struct elf_segment *s = &e->segment[i];
		char what[32];

		snprintf(what, sizeof(what), "segment %u", i);
		ret = place_claim(p, e->file, what, s->paddr, s->mem_len, err);
	}
	for (unsigned i = 0; i < e->segments && ret == 0; i++)
		ret = boot_file_load(e->file, e->segment[i].off, e->segment[i].file_len, r->mem,
				     e->segment[i].paddr, err);
	return ret;
}

uint64_t
elf_physical(const struct elf *e, uint64_t vaddr)
{
	for (unsigned i = 0; i < e->segments; i++) {
		const struct elf_segment *s = &e->segment[i];

		if (vaddr >= s->vaddr && vaddr - s->vaddr < s->mem_len)
			return vaddr - s->vaddr + s->paddr;
	}
	return vaddr;
}

/* ---- notes: {owner's length, descriptor's length, type}, owner, descriptor, each padded to 4 bytes ---- */

enum { NOTE_HEADER = 12 };

/* Walks forward only, by at least a header a step. */
static bool
find_note(const uint8_t *p, uint64_t len, const char *owner, uint32_t type, const uint8_t **desc,
	  uint32_t *desc_len)
{
	size_t owner_len = strlen(owner) + 1;
	uint64_t at = 0;

	while (len - at >= NOTE_HEADER) {
		uint64_t name_len = get_le32(p + at), n = get_le32(p + at + 4);
		uint64_t name_at = at + NOTE_HEADER, desc_at = name_at + align_up(name_len, 4);

		if (!range_fits(desc_at, n, len))
			return false;
		if (get_le32(p + at + 8) == type && name_len == owner_len &&
		    memcmp(p + name_at, owner, owner_len) == 0) {
			*desc = p + desc_at;
			*desc_len = (uint32_t)n;
			return true;
		}
		at = MIN(desc_at + align_up(n, 4), len);
	}
	return false;
}

int
elf_find_note(const struct elf *e, const char *owner, uint32_t type, void *buf, uint32_t room, uint32_t *len,
	      struct err *err)
{
	uint8_t *bytes = malloc(ELF_NOTE_BYTES);
	int ret = 0;

	if (bytes == NULL)
		return boot_file_error(e->file, err, "no memory to read its notes");
	for (unsigned i = 0; i < e->notes && ret == 0; i++) {
		uint64_t n = MIN(e->note[i].file_len, (uint64_t)ELF_NOTE_BYTES);
		const uint8_t *desc;

		ret = boot_file_read(e->file, e->note[i].off, bytes, n, err);
		if (ret != 0 || !find_note(bytes, n, owner, type, &desc, len))
			continue;
		*len = MIN(*len, room);
		memcpy(buf, desc, *len);
		ret = 1;
	}
	free(bytes);
	return ret;
}
