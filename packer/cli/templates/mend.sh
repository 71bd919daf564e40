if [ -d "$root/docker" ]; then
  find "$root/docker" -type d -name _uploads -prune -exec rm -rf {} +
  find "$root/docker" -path '*/_manifests/*' -name link -size 0 -print -delete
  find "$root/docker" -path '*/blobs/sha256/*' -name data -size 0 -print |
    while read -r blob; do
      digest=$(basename "${blob%/data}")
      [ "$digest" = e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 ] && continue
      find "$root/docker" -path "*/_manifests/revisions/sha256/$digest/link" -print -delete
      rm "$blob"
    done
fi
