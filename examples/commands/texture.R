# Rscript texture.R IMAGES OUT: the roughness of each channel of each image, with R alone (no package is needed).
# The roughness of a pixel is the difference between the pixel and the mean of its four neighbors.

folders <- commandArgs(trailingOnly = TRUE)

# Read an uncompressed TIFF: a list of matrices (y, x), one per plane, and its description, which is OME-XML.
read_tiff <- function(path) {
  file <- file(path, "rb")
  on.exit(close(file))
  whole <- function(size, count = 1) {
    readBin(file, "integer", count, size = size, signed = size == 4, endian = "little")
  }
  if (!identical(readChar(file, 2), "II") || whole(2) != 42) stop(path, " is not a little-endian TIFF")
  planes <- list()
  description <- ""
  place <- whole(4)
  while (place > 0) {
    seek(file, place)
    tags <- list()
    for (number in seq_len(whole(2))) {
      tag <- whole(2)
      type <- whole(2)
      count <- whole(4)
      here <- seek(file, NA)
      if (tag == 270) {
        if (count > 4) seek(file, whole(4))
        description <- readChar(file, count - 1, useBytes = TRUE)
      } else {
        tags[[as.character(tag)]] <- if (type == 3) whole(2) else whole(4)
        if (tag == 273 && count > 1) stop(path, " has planes in several strips")
      }
      seek(file, here + 4)
    }
    place <- whole(4)
    height <- tags[["257"]]
    width <- tags[["256"]]
    bytes <- tags[["258"]] / 8
    if (!bytes %in% c(1, 2)) stop(path, " has pixels that are not of 8 or 16 bits")
    seek(file, tags[["273"]])
    planes[[length(planes) + 1]] <- matrix(whole(bytes, height * width), height, width, byrow = TRUE)
  }
  list(planes = planes, description = description)
}

# Write matrices (y, x) of whole numbers as the 16-bit planes of a TIFF.
write_tiff <- function(planes, path) {
  file <- file(path, "wb")
  on.exit(close(file))
  put <- function(values, size) writeBin(as.integer(values), file, size = size, endian = "little")
  height <- nrow(planes[[1]])
  width <- ncol(planes[[1]])
  length_of_entry <- 2 + 8 * 12 + 4 + 2 * height * width
  writeChar("II", file, eos = NULL)
  put(42, 2)
  put(8, 4)
  for (number in seq_along(planes)) {
    start <- 8 + (number - 1) * length_of_entry
    tags <- rbind(c(256, width), c(257, height), c(258, 16), c(259, 1), c(262, 1),
                  c(273, start + 2 + 8 * 12 + 4), c(278, height), c(279, 2 * height * width))
    put(nrow(tags), 2)
    for (row in seq_len(nrow(tags))) {
      put(c(tags[row, 1], 4), 2)
      put(c(1, tags[row, 2]), 4)
    }
    put(if (number < length(planes)) start + length_of_entry else 0, 4)
    values <- as.vector(t(planes[[number]]))
    put(ifelse(values > 32767, values - 65536, values), 2)  # R has no unsigned numbers
  }
}

roughness <- function(plane) {
  y <- seq(2, nrow(plane) - 1)
  x <- seq(2, ncol(plane) - 1)
  rough <- matrix(0, nrow(plane), ncol(plane))
  neighbors <- plane[y - 1, x] + plane[y + 1, x] + plane[y, x - 1] + plane[y, x + 1]
  rough[y, x] <- abs(plane[y, x] - neighbors / 4)
  rough
}

size <- function(description, axis) {
  as.integer(sub(paste0('.*Size', axis, '="([0-9]+)".*'), "\\1", description))
}

rows <- list()
images <- sort(list.files(folders[1], pattern = "[.]ome[.]tif$", full.names = TRUE))
for (number in seq_along(images)) {
  image <- read_tiff(images[number])
  rough <- lapply(image$planes, roughness)
  channels <- size(image$description, "C")
  channel <- rep(rep(seq_len(channels) - 1, each = size(image$description, "Z")), length.out = length(rough))
  row <- list(ImageNumber = number)
  for (c in unique(channel)) row[[paste0("roughness_c", c)]] <- mean(unlist(rough[channel == c]))
  rows[[number]] <- as.data.frame(row)
  name <- sub("[.]ome[.]tif$", "_out.tif", basename(images[number]))
  write_tiff(lapply(rough, function(plane) pmin(round(plane), 65535)), file.path(folders[2], name))
  cat(basename(images[number]), "has", length(rough), "planes\n")
}
write.csv(do.call(rbind, rows), file.path(folders[2], "Image.csv"), row.names = FALSE)
