# Makes a private machine, and the process that goes on in /mnt, look like a Mac: its folders, its people, its
# programs (mac_double.py), and Apple's stubs in /usr/bin.
here=/opt/mactools
install -d -m 1777 /home/Shared
mkdir -p /var/at /var/run /var/empty /etc/sudoers.d $here
install -d -m 1777 /var/folders/zz
echo Guest > /var/at/cron.deny
mount -t tmpfs -o mode=755 tmpfs /mnt
for d in /*; do
  if [ -L "$d" ]; then
    cp -P "$d" /mnt/
  elif [ -d "$d" ] && [ "$d" != /mnt ] && [ "$d" != /lost+found ]; then
    mkdir "/mnt$d"
    mount --rbind "$d" "/mnt$d"
  fi
done
mkdir -p /mnt/mnt /mnt/Users /mnt/Volumes/ai /mnt/realbin /mnt/private/etc /mnt/private/var \
  /mnt/Library/LaunchDaemons "/mnt/Library/Application Support"
mount --bind /home /mnt/Users
mount --bind /etc /mnt/private/etc
mount --rbind /var /mnt/private/var
# /usr/bin as it is, but for the stubs, and the interpreter of the doubles under its real path.
mount --bind /usr/bin /mnt/realbin
mount -t tmpfs -o mode=755 tmpfs /mnt/usr/bin
for f in /mnt/realbin/*; do
  if [ -L "$f" ]; then cp -P "$f" /mnt/usr/bin/; else ln -s "/realbin/${f##*/}" /mnt/usr/bin/; fi
done
for python in /usr/bin/python3 /usr/local/bin/python3; do [ -e $python ] && break; done
python=$(readlink -f $python)
rm -f /mnt/usr/bin/git /mnt/usr/bin/python3 /mnt/usr/bin/install_name_tool
case $python in
  /usr/bin/*)
    rm -f "/mnt$python"
    cp "$python" "/mnt$python"
    ;;
esac
played="dscl dseditgroup id ls stat chmod ps launchctl sandbox-exec diskutil getconf lsof open visudo
  sleep fresh scramble"
for name in $played; do
  sed "1s|.*|#!$python -IS|" "$1" > $here/$name
  chmod 755 $here/$name
done
for name in git python3 install_name_tool; do cp $here/dscl /mnt/usr/bin/$name; done
# Apple's sudo keeps the caller's HOME (its sudoers file).
echo 'Defaults env_keep += "HOME MAIL"' > /etc/sudoers.d/apple
chmod 440 /etc/sudoers.d/apple
for f in WRONG held calls opened; do
  touch $here/$f
  chmod 666 $here/$f
done
MAC_TEST=1 $here/fresh
chown -R 501:20 /home/alice
chown -R 502:20 /home/mallory
chmod 750 /home/alice /home/mallory
