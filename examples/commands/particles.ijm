// ImageJ -batch particles.ijm IMAGES:OUT finds the bright particles of each image. It takes the first plane of an image,
// so choose a single channel with `channels`.
folders = split(getArgument(), ":");
names = getFileList(folders[0]);
setBatchMode(true);
for (i = 0; i < names.length; i++) {
    stem = replace(names[i], ".ome.tif", "");
    open(folders[0] + File.separator + names[i]);
    setSlice(1);
    run("Set Measurements...", "area mean redirect=None decimal=3");
    setAutoThreshold("Otsu dark");
    run("Analyze Particles...", "size=4-Infinity pixel show=[Count Masks] display clear");
    // the masks are a new image whose values are the numbers of the particles, as in the table of results
    saveAs("Tiff", folders[1] + File.separator + stem + "_labels.tif");
    table = "label,area,mean\n";
    for (row = 0; row < nResults; row++)
        table += "" + (row + 1) + "," + getResult("Area", row) + "," + getResult("Mean", row) + "\n";
    File.saveString(table, folders[1] + File.separator + stem + "_particles.csv");
    print(stem + " has " + nResults + " particles");
    close("*");
}
