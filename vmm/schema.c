/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The one table of all configuration keys. Names are those of bhyve_config(5) where bhyve has one,
 * else the hierarchy of lhyve_config(5). Checks, --schema, "did you mean" and the manual come from here.
 */
#include <stdlib.h>
#include <string.h>
#include "base/util.h"
#include "vmm/config.h"

#define PCI_DEVICES \
	"hostbridge|lpc|pci-bridge|pci-testdev|edu|virtio-blk|virtio-net|virtio-console|virtio-rnd"

/* What a disk has, and a network card, under whatever name. */
#define DISK_KEYS(p)                                                                           \
	{.name = p "path",                                                                     \
	 .type = CONFIG_PATH,                                                                  \
	 .help = "disk: image, a file or block device; network unix: our socket"},             \
	    {.name = p "ro", .type = CONFIG_BOOL, .help = "disk: the guest may only read"},    \
	    {.name = p "nocache",                                                              \
	     .type = CONFIG_BOOL,                                                              \
	     .help = "disk: past the host's page cache (O_DIRECT)"},                           \
	    {.name = p "sync",                                                                 \
	     .type = CONFIG_BOOL,                                                              \
	     .help = "disk: each write is durable when it ends (O_DSYNC)"},                    \
	    {.name = p "sectorsize",                                                           \
	     .type = CONFIG_STRING,                                                            \
	     .help = "disk: logical[/physical] bytes; default: 512/4096, a device's own"},     \
	    {.name = p "ser",                                                                  \
	     .type = CONFIG_STRING,                                                            \
	     .help = "disk: serial number, up to 20 characters; default: made from the path"}, \
	    {.name = p "queues",                                                               \
	     .type = CONFIG_INT,                                                               \
	     .min = 1,                                                                         \
	     .max = 16,                                                                        \
	     .help = "disk: queues; network: pairs of them; default: 1"},                      \
	{                                                                                      \
		.name = p "aio", .type = CONFIG_CHOICE, .choices = "auto|io_uring|threads",    \
		.help = "disk: how the host is asked; default: auto"                           \
	}
#define NET_KEYS(p)                                                                                       \
	{.name = p "backend",                                                                             \
	 .type = CONFIG_CHOICE,                                                                           \
	 .choices = "user|tap|unix",                                                                      \
	 .help = "network: what is behind the card"},                                                     \
	    {.name = p "hostfwd",                                                                         \
	     .type = CONFIG_LIST,                                                                         \
	     .help = "network user: ports of the host that lead into the guest, tcp:127.0.0.1:2222-:22"}, \
	    {.name = p "ifname", .type = CONFIG_STRING, .help = "network tap: the interface"},            \
	    {.name = p "peer", .type = CONFIG_PATH, .help = "network unix: the other's socket"},          \
	    {.name = p "mac",                                                                             \
	     .type = CONFIG_STRING,                                                                       \
	     .help = "network: address of the card; default: made from the VM's name"},                   \
	{                                                                                                 \
		.name = p "mtu", .type = CONFIG_INT, .unit = "bytes", .min = 1280, .max = 65520,          \
		.help = "network: largest packet; default: 65520 for user, else 1500"                     \
	}

/* clang-format off */
const struct config_key config_schema[] = {
	{ .name = "name", .type = CONFIG_STRING, .help = "name of the VM" },
	{ .name = "uuid", .type = CONFIG_UUID, .help = "SMBIOS system UUID; default: made from the name" },
	{ .name = "engine", .type = CONFIG_CHOICE, .def = "auto", .choices = "auto|kvm|soft",
	  .help = "what runs guest code: the processor, or lhyve itself; auto takes kvm where it works" },

	{ .name = "cpu.count", .alias = "cpus", .type = CONFIG_INT, .min = 1, .max = 1024,
	  .help = "virtual CPUs; default: sockets * cores * threads" },
	{ .name = "cpu.sockets", .alias = "sockets", .type = CONFIG_INT, .min = 1, .max = 1024,
	  .help = "sockets; default: what the others leave" },
	{ .name = "cpu.cores", .alias = "cores", .type = CONFIG_INT, .min = 1, .max = 1024,
	  .help = "cores in a socket; default: what the others leave" },
	{ .name = "cpu.threads", .alias = "threads", .type = CONFIG_INT, .min = 1, .max = 1024,
	  .help = "threads in a core; default: what the others leave" },
	{ .name = "cpu.maxcpus", .alias = "maxcpus", .type = CONFIG_INT, .min = 1, .max = 1024,
	  .help = "room for virtual CPUs added later; default: cpu.count" },
	{ .name = "cpu.model", .type = CONFIG_CHOICE, .def = "host", .choices = "host",
	  .help = "CPUID features: the host's, as far as the engine gives them" },
	{ .name = "vcpu.*.cpuset", .type = CONFIG_STRING, .only = "", .help = "host CPUs that a virtual CPU may use" },

	{ .name = "memory.size", .type = CONFIG_SIZE, .def = "256M", .min = 4 * MIB, .max = 1024 * GIB,
	  .help = "guest RAM; a plain number below 1048576 counts MiB" },
	{ .name = "memory.wired", .type = CONFIG_BOOL, .def = "false", .only = "false", .help = "lock guest RAM in host memory" },
	{ .name = "memory.backing", .type = CONFIG_CHOICE, .def = "memfd", .choices = "memfd", .help = "what guest RAM is made of" },
	{ .name = "memory.guest_in_core", .type = CONFIG_BOOL, .def = "false", .only = "false",
	  .help = "guest RAM in core dumps of lhyve" },

	{ .name = "boot.kernel", .type = CONFIG_PATH, .help = "Linux bzImage, multiboot, PVH or plain ELF kernel" },
	{ .name = "boot.initrd", .type = CONFIG_PATH, .help = "initial RAM disk" },
	{ .name = "boot.cmdline", .type = CONFIG_STRING, .help = "kernel command line" },
	{ .name = "boot.module.*.path", .type = CONFIG_PATH, .help = "file for a multiboot or PVH kernel; in order of numbers, after the initrd" },
	{ .name = "boot.module.*.cmdline", .type = CONFIG_STRING, .help = "text that goes with the module" },
	{ .name = "boot.firmware", .alias = "lpc.bootrom", .type = CONFIG_PATH, .only = "", .help = "UEFI firmware" },
	{ .name = "boot.vars", .alias = "lpc.bootvars", .type = CONFIG_PATH, .only = "", .help = "UEFI variables" },

	{ .name = "x86.apic", .type = CONFIG_CHOICE, .def = "auto", .choices = "auto|kernel|split|user",
	  .help = "interrupt controllers: all in the kernel, the local APICs (auto, on KVM), all in lhyve" },
	{ .name = "x86.apicv", .type = CONFIG_BOOL, .def = "false", .only = "false", .help = "APIC virtualization of the processor" },
	{ .name = "x86.x2apic", .type = CONFIG_BOOL, .def = "true", .help = "offer x2APIC" },
	{ .name = "x86.hpet", .type = CONFIG_BOOL, .def = "true", .help = "offer the HPET" },
	{ .name = "x86.pit_reinject", .type = CONFIG_BOOL, .def = "true",
	  .help = "ticks of the 8254 that the host is late for follow; false: they are lost" },
	{ .name = "x86.vtd", .type = CONFIG_BOOL, .def = "false", .help = "offer a remapping unit (VT-d) for DMA and interrupts" },
	{ .name = "x86.la57", .type = CONFIG_BOOL, .def = "false",
	  .help = "offer 5-level paging even where the host's processor has none (software engine)" },
	{ .name = "x86.pku", .type = CONFIG_BOOL, .def = "false", .help = "the same for user pages' protection keys" },
	{ .name = "x86.pks", .type = CONFIG_BOOL, .def = "false", .help = "the same for supervisor pages' protection keys" },
	{ .name = "x86.mptable", .type = CONFIG_BOOL, .def = "true", .help = "make an MP table" },
	{ .name = "x86.strictio", .type = CONFIG_BOOL, .def = "false", .only = "false", .help = "end the VM on I/O to a port nobody has" },
	{ .name = "x86.strictmsr", .type = CONFIG_BOOL, .def = "true",
	  .help = "unknown MSRs: #GP; false: they read 0 and writes are dropped" },
	{ .name = "x86.pmu", .type = CONFIG_BOOL, .def = "false",
	  .help = "AMD's four legacy performance counters count instructions, cycles and branches" },
	{ .name = "x86.vmware_backdoors", .type = CONFIG_BOOL, .def = "false",
	  .help = "VMware's time counters of RDPMC, and its port 0x5658" },
	{ .name = "x86.verbosemsr", .type = CONFIG_BOOL, .def = "false", .only = "false", .help = "log accesses to unknown MSRs" },
	{ .name = "x86.vmexit_on_hlt", .type = CONFIG_BOOL, .def = "true", .only = "true", .help = "HLT blocks the virtual CPU's thread" },
	{ .name = "x86.vmexit_on_pause", .type = CONFIG_BOOL, .def = "true", .only = "true", .help = "PAUSE may yield the host CPU" },
	{ .name = "x86.pvclock", .type = CONFIG_BOOL, .def = "false", .only = "false", .help = "offer the KVM clock" },
	{ .name = "x86.hypervisor_id", .type = CONFIG_CHOICE, .def = "bhyve", .choices = "bhyve|kvm|both|none", .only = "bhyve",
	  .help = "what CPUID says about the hypervisor" },
	{ .name = "x86.tsc_khz", .type = CONFIG_INT, .unit = "kHz", .def = "0", .only = "0", .help = "guest TSC frequency; 0: the host's" },
	{ .name = "acpi_tables", .type = CONFIG_BOOL, .def = "true", .help = "make ACPI tables" },
	{ .name = "rtc.use_localtime", .type = CONFIG_BOOL, .def = "false", .help = "the RTC shows local time, else UTC" },
	{ .name = "virtio_msix", .type = CONFIG_BOOL, .def = "true", .help = "virtio devices use MSI-X; false: MSI or a line" },
	{ .name = "destroy_on_poweroff", .type = CONFIG_BOOL, .def = "true", .only = "true",
	  .help = "the VM goes with its process" },

	{ .name = "pci.*.*.*.device", .type = CONFIG_CHOICE, .choices = PCI_DEVICES, .help = "device at bus.slot.function" },
	{ .name = "pci.*.*.*.link", .type = CONFIG_BOOL, .running = true, .help = "network: the cable is in; default: true" },
	{ .name = "pci.*.*.*.bus", .type = CONFIG_INT, .min = 1, .max = 255, .help = "bridge: number of the bus behind it" },
	{ .name = "pci.*.*.*.packed", .type = CONFIG_BOOL, .help = "virtio: offer packed queues; default: true" },
	{ .name = "pci.*.*.*.name", .type = CONFIG_STRING, .help = "what the device is called: its section's name" },
	DISK_KEYS("pci.*.*.*."),
	NET_KEYS("pci.*.*.*."),
	{ .name = "pci.*.*.*.port.*.path", .type = CONFIG_PATH, .help = "console: stdio, tcp=host:port, or a UNIX socket that is made" },
	{ .name = "pci.*.*.*.port.*.name", .type = CONFIG_STRING, .help = "console: name of the port in the guest; without one it is a terminal" },
	{ .name = "lpc.com1.path", .alias = "console.com1.backend", .type = CONFIG_PATH, .help = "com1: stdio, or a terminal, pseudo-terminal or file" },
	{ .name = "lpc.com2.path", .alias = "console.com2.backend", .type = CONFIG_PATH, .help = "com2, as com1" },
	{ .name = "lpc.com3.path", .alias = "console.com3.backend", .type = CONFIG_PATH, .help = "com3, as com1" },
	{ .name = "lpc.com4.path", .alias = "console.com4.backend", .type = CONFIG_PATH, .help = "com4, as com1" },
	{ .name = "lpc.pc-testdev", .type = CONFIG_BOOL, .def = "false", .help = "devices that test guests look for: exit port 0xf4 and others" },
	{ .name = "lpc.fwcfg", .type = CONFIG_CHOICE, .choices = "bhyve|qemu", .only = "qemu", .help = "firmware configuration device" },

	DISK_KEYS("disk.@."),
	{ .name = "disk.@.model", .type = CONFIG_CHOICE, .choices = "virtio-blk", .help = "kind of disk; default: virtio-blk" },
	NET_KEYS("net.@."),
	{ .name = "net.@.model", .type = CONFIG_CHOICE, .choices = "virtio-net", .help = "kind of card; default: virtio-net" },
	{ .name = "disk.@.packed", .type = CONFIG_BOOL, .help = "offer packed queues; default: true" },
	{ .name = "net.@.packed", .type = CONFIG_BOOL, .help = "offer packed queues; default: true" },
	{ .name = "net.@.link", .type = CONFIG_BOOL, .help = "the cable is in; default: true" },
	{ .name = "net.@.path", .type = CONFIG_PATH, .help = "network unix: our socket" },
	{ .name = "net.@.queues", .type = CONFIG_INT, .min = 1, .max = 16, .help = "pairs of queues; default: 1" },
	{ .name = "migrate.listen", .type = CONFIG_STRING, .only = "", .help = "wait for an incoming VM" },

	{ .name = "gdb.port", .type = CONFIG_INT, .unit = "TCP port", .min = 1, .max = 65535, .only = "", .help = "debugger stub" },
	{ .name = "keyboard.layout", .type = CONFIG_STRING, .only = "", .help = "keyboard layout of the frame buffer" },
	{ .name = "restore", .type = CONFIG_PATH, .only = "", .help = "snapshot to restore" },
	{ .name = "time.on_restore", .type = CONFIG_CHOICE, .def = "advance", .choices = "advance|freeze", .only = "",
	  .help = "guest time after a restore" },
	{ .name = "control.socket", .type = CONFIG_PATH,
	  .help = "path of the control socket, or none; default: NAME.sock in $XDG_RUNTIME_DIR/lhyve or /run/lhyve" },

	{ .name = "soft.translate", .type = CONFIG_BOOL, .def = "true",
	  .help = "the software engine translates; false: it interprets" },
	{ .name = "soft.code_cache", .type = CONFIG_SIZE, .def = "134217728", .min = 4 * MIB, .max = 1 * GIB,
	  .help = "memory for translated code, and as many again at most for what goes with it; the oldest quarter is given up when it is full" },
	{ .name = "soft.verify", .type = CONFIG_BOOL, .def = "false",
	  .help = "the interpreter repeats what translated code did, and a difference ends the VM; one virtual CPU, no device with DMA" },

	{ .name = "log.level", .type = CONFIG_CHOICE, .def = "warn", .choices = "error|warn|info|debug", .running = true,
	  .help = "what is logged; info adds what the guest does wrong" },
	{ .name = "log.path", .type = CONFIG_PATH, .help = "file that log lines are added to; default: standard error" },
	{ .name = "log.json", .type = CONFIG_BOOL, .def = "false", .help = "each log line is a JSON object: time, level, message" },
	{ .name = "debug.trace", .type = CONFIG_PATH, .help = "a record an instruction of one virtual CPU into this file" },
	{ .name = "debug.trace_format", .type = CONFIG_CHOICE, .def = "text", .choices = "text|binary", .help = "lines, or a compact form" },
	{ .name = "debug.trace_vcpu", .type = CONFIG_INT, .def = "0", .max = 1023, .help = "the virtual CPU that is traced" },
	{ .name = "debug.trace_start", .type = CONFIG_INT, .def = "0", .max = INT64_MAX, .help = "instructions that are left out first" },
	{ .name = "debug.trace_count", .type = CONFIG_INT, .def = "0", .max = INT64_MAX, .help = "how many are traced then; 0: all" },
	{ .name = "debug.trace_translated", .type = CONFIG_BOOL, .def = "false",
	  .help = "each instruction by a translation of its own, where the translator has one" },
	{ .name = "debug.stats", .type = CONFIG_BOOL, .def = "false", .help = "print counters when the VM ends" },
	{ .name = "debug.perf_map", .type = CONFIG_BOOL, .def = "false",
	  .help = "write /tmp/perf-PID.map, by which perf names translated code" },
	{ .name = "debug.symbols", .type = CONFIG_PATH, .help = "the guest's symbols for that map, as System.map has them" },
	{ .name = "debug.reads", .type = CONFIG_PATH, .help = "names of the keys that were read, into this file when the VM has ended" },
	{ .name = "config.dump", .type = CONFIG_BOOL, .def = "false", .help = "print the resolved tree and exit" },
};
/* clang-format on */
const unsigned config_schema_count = ARRAY_LEN(config_schema);

static const char numbers[] = "0123456789";
static const char names[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_-";

/* Compare as far as both go; "*" takes one component of digits, "@" one of name characters. What is left of
 * the pattern, or NULL when they differ or the name is longer. */
static const char *
match(const char *pattern, const char *name)
{
	while (*pattern != '\0' && *name != '\0') {
		if (*pattern == '*' || *pattern == '@') {
			size_t len = strspn(name, *pattern == '*' ? numbers : names);

			if (len == 0)
				return NULL;
			name += len;
			pattern++;
		} else if (*pattern++ != *name++) {
			return NULL;
		}
	}
	return *name == '\0' ? pattern : NULL;
}

/* True when the concrete name fits the pattern. */
static bool
name_fits(const char *pattern, const char *name)
{
	const char *left = match(pattern, name);

	return left != NULL && *left == '\0';
}

/* True when the concrete name is one of the sections around the pattern's key. */
static bool
section_fits(const char *pattern, const char *name)
{
	const char *left = pattern != NULL && *name != '\0' ? match(pattern, name) : NULL;

	return left != NULL && *left == '.';
}

bool
config_section_known(const char *name)
{
	for (unsigned i = 0; i < config_schema_count; i++)
		if (section_fits(config_schema[i].name, name) || section_fits(config_schema[i].alias, name))
			return true;
	return false;
}

const struct config_key *
config_key_find(const char *name)
{
	for (unsigned i = 0; i < config_schema_count; i++) {
		const struct config_key *k = &config_schema[i];

		if (name_fits(k->name, name) || (k->alias != NULL && strcmp(k->alias, name) == 0))
			return k;
	}
	return NULL;
}

/* Edits (insert, delete, change, swap of neighbours) between two names. */
static unsigned
edit_distance(const char *a, const char *b)
{
	enum { LONGEST = 64 };
	unsigned row[3][LONGEST + 1];
	size_t la = strnlen(a, LONGEST), lb = strnlen(b, LONGEST);

	for (size_t j = 0; j <= lb; j++)
		row[0][j] = (unsigned)j;
	for (size_t i = 1; i <= la; i++) {
		unsigned *now = row[i % 3], *prev = row[(i + 2) % 3], *prev2 = row[(i + 1) % 3];

		now[0] = (unsigned)i;
		for (size_t j = 1; j <= lb; j++) {
			now[j] = prev[j - 1] + (a[i - 1] != b[j - 1]);
			now[j] = MIN(now[j], prev[j] + 1);
			now[j] = MIN(now[j], now[j - 1] + 1);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				now[j] = MIN(now[j], prev2[j - 2] + 1);
		}
	}
	return row[la % 3][lb];
}

/* How far `name` is from a known one. The last component alone may be what was meant: "kernel" for
 * "boot.kernel". */
static unsigned
name_distance(const char *known, const char *name)
{
	const char *last = strrchr(known, '.');
	unsigned whole = edit_distance(known, name);

	if (last == NULL || strchr(name, '.') != NULL)
		return whole;
	return MIN(whole, edit_distance(last + 1, name) + 1);
}

/* The pattern with the components of `name` for its "*" and "@", as far as they fit. */
static void
instantiate(const char *pattern, const char *name, char room[static CONFIG_NAME_ROOM])
{
	size_t used = 0;

	while (*pattern != '\0' && used + 1 < CONFIG_NAME_ROOM) {
		size_t part = strcspn(name, ".");
		size_t fits = *pattern == '*'	? strspn(name, numbers)
			      : *pattern == '@' ? strspn(name, names)
						: 0;

		if (fits > 0 && fits == part && used + fits + 1 < CONFIG_NAME_ROOM) {
			memcpy(room + used, name, fits);
			used += fits;
			pattern++;
		} else {
			while (*pattern != '\0' && *pattern != '.' && used + 1 < CONFIG_NAME_ROOM)
				room[used++] = *pattern++;
		}
		name += part + (name[part] == '.');
		if (*pattern == '.' && used + 1 < CONFIG_NAME_ROOM)
			room[used++] = *pattern++;
	}
	room[used] = '\0';
}

const char *
config_key_nearest(const char *name, char room[static CONFIG_NAME_ROOM])
{
	unsigned best = (unsigned)strlen(name) / 3 + 2;
	const char *found = NULL;

	for (unsigned i = 0; i < config_schema_count; i++) {
		const struct config_key *k = &config_schema[i];
		const char *known[] = {k->name, k->alias};

		for (unsigned j = 0; j < ARRAY_LEN(known) && known[j] != NULL; j++) {
			char full[CONFIG_NAME_ROOM];
			unsigned d;

			instantiate(known[j], name, full);
			d = name_distance(full, name);
			if (d < best) {
				best = d;
				found = strcpy(room, full);
			}
		}
	}
	return found;
}

const char *
config_section_nearest(const char *name, char room[static CONFIG_SECTION_ROOM])
{
	unsigned best = (unsigned)strlen(name) / 3 + 2;
	const char *found = NULL;

	for (unsigned i = 0; i < config_schema_count; i++) {
		const char *known = config_schema[i].name, *dot = strchr(known, '.');
		char first[CONFIG_SECTION_ROOM];
		unsigned d;

		if (dot == NULL)
			continue;
		snprintf(first, sizeof(first), "%.*s", (int)(dot - known), known);
		d = edit_distance(first, name);
		if (d < best) {
			best = d;
			found = strcpy(room, first);
		}
	}
	return found;
}

static const char *const type_names[] = {
    [CONFIG_BOOL] = "bool", [CONFIG_INT] = "integer",	[CONFIG_SIZE] = "size", [CONFIG_STRING] = "string",
    [CONFIG_PATH] = "path", [CONFIG_CHOICE] = "choice", [CONFIG_LIST] = "list", [CONFIG_UUID] = "uuid",
};

const char *
config_type_name(enum config_type type)
{
	return type_names[type];
}

void
config_schema_print(FILE *out)
{
	for (unsigned i = 0; i < config_schema_count; i++) {
		const struct config_key *k = &config_schema[i];

		fprintf(out, "%s\n    type: %s", k->name, type_names[k->type]);
		if (k->unit != NULL)
			fprintf(out, " (%s)", k->unit);
		if (k->choices != NULL)
			fprintf(out, " (%s)", k->choices);
		if (k->max != 0 && k->type == CONFIG_SIZE)
			fprintf(out, ", %lluM to %lluM", (unsigned long long)(k->min / MIB),
				(unsigned long long)(k->max / MIB));
		else if (k->max != 0)
			fprintf(out, ", %llu to %llu", (unsigned long long)k->min,
				(unsigned long long)k->max);
		fprintf(out, "\n    default: %s\n", k->def != NULL ? k->def : "(not set)");
		if (k->alias != NULL)
			fprintf(out, "    also: %s\n", k->alias);
		if (k->only != NULL)
			fprintf(out, "    this version: %s\n", *k->only == '\0' ? "not there yet" : k->only);
		if (k->running)
			fprintf(out, "    while running: may change\n");
		fprintf(out, "    %s\n", k->help);
	}
}
